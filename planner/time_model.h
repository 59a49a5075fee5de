// Seconds that a call of an op, a collective or a message takes on a cluster: the model that planner/cluster.proto
// describes, nothing more.
//
//   const TimeModel model(cluster, /*devices_per_rank=*/1);
//   model.OpSeconds(count);                                  // of one rank, undisturbed
//   model.CollectiveSeconds(call.exchanges, call.members, call.bytes);  // a GroupCall (parallel/collectives/world.h)
//
// Threads: any, at the same time on objects of their own.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "parallel/collectives/rounds.h"
#include "planner/cluster.pb.h"
#include "runtime/device.h"

namespace trefoil {

class TimeModel {
 public:
  // devices_per_rank: 1 GPU; cores of a CPU, one for each of the rank's threads.
  TimeModel(const Cluster& cluster, int devices_per_rank);

  double OpSeconds(const OpCount& count);
  // Of the first of `members`. In each round it sends to its peers, those in its node over its node's link and at the
  // same time the rest over the network; the next round begins when both are done. Sums are ops of their own.
  double CollectiveSeconds(const Exchanges& exchanges, const std::vector<int>& members, double bytes) const;
  double MessageSeconds(int from, int to, double bytes) const;
  // What CollectiveSeconds takes to be sent by a rank.
  static double BytesSent(const Exchanges& exchanges, double bytes);

  // FLOP/s of a rank's devices at best. 0 if the cluster does not say.
  double Peak(DType dtype) const { return DevicePeak(dtype) * devices_per_rank_; }
  int NodeOf(int rank) const;
  const Cluster& cluster() const { return cluster_; }
  int devices_per_rank() const { return devices_per_rank_; }

 private:
  double DevicePeak(DType dtype) const;
  const OpSpeed* SpeedOf(const char* op, DType dtype);

  const Cluster cluster_;
  const int devices_per_rank_;
  std::map<std::pair<const char*, DType>, const OpSpeed*> speeds_;  // by the op's static name
};

}  // namespace trefoil
