// Seconds that a call of an op, a collective or a message takes on a cluster: the model that planner/cluster.proto
// describes, nothing more.
//
//   const TimeModel model(cluster, /*devices_per_rank=*/1);
//   model.OpSeconds(count);                                  // of one rank, undisturbed
//   model.CollectiveSeconds("AllGather", members, bytes);
//
// Threads: any, at the same time on objects of their own.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "planner/cluster.pb.h"
#include "runtime/device.h"

namespace trefoil {

class TimeModel {
 public:
  // devices_per_rank: 1 GPU; cores of a CPU, one for each of the rank's threads.
  TimeModel(const Cluster& cluster, int devices_per_rank);

  double OpSeconds(const OpCount& count);
  // `operation` as in GroupCall (parallel/collectives/world.h), of the first of `members`. Each rank sends (n-1)/n of
  // the bytes to the n-1 others directly, those in its node over its node's link and at the same time the rest over the
  // network; twice for AllReduceSum. Sums are ops of their own.
  double CollectiveSeconds(const std::string& operation, const std::vector<int>& members, double bytes) const;
  double MessageSeconds(int from, int to, double bytes) const;
  // What CollectiveSeconds and MessageSeconds take to be sent by a rank.
  static double BytesSent(const std::string& operation, double ranks, double bytes);

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
