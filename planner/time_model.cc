#include "planner/time_model.h"

#include <glog/logging.h>

#include <algorithm>

#include "planner/op_seconds.h"

namespace trefoil {
namespace {

bool Fits(const OpSpeed& speed, const std::string& op, const std::string& dtype) {
  if (!speed.dtype().empty() && speed.dtype() != dtype) return false;
  return speed.ops().empty() || std::find(speed.ops().begin(), speed.ops().end(), op) != speed.ops().end();
}

double LinkSeconds(const Link& link, double bytes) {
  if (bytes <= 0) return 0;
  const double transfer = link.gbytes_per_second() > 0 ? bytes / (link.gbytes_per_second() * 1e9) : 0;
  return link.latency_us() * 1e-6 + transfer;
}

}  // namespace

TimeModel::TimeModel(const Cluster& cluster, int devices_per_rank)
    : cluster_(cluster), devices_per_rank_(devices_per_rank) {
  CHECK_GE(devices_per_rank, 1);
}

const OpSpeed* TimeModel::SpeedOf(const char* op, DType dtype) {
  const auto [found, is_new] = speeds_.try_emplace({op, dtype}, nullptr);
  if (is_new) {
    for (const OpSpeed& speed : cluster_.ops()) {
      if (!Fits(speed, op, Name(dtype))) continue;
      found->second = &speed;
      break;
    }
  }
  return found->second;
}

int TimeModel::NodeOf(int rank) const {
  const int node = rank * devices_per_rank_ / std::max(1, cluster_.devices_per_node());
  return cluster_.nodes() > 0 ? std::min(node, cluster_.nodes() - 1) : node;
}

double TimeModel::DevicePeak(DType dtype) const {
  for (const trefoil::Peak& peak : cluster_.peaks()) {
    if (peak.dtype() == Name(dtype)) return peak.tflops() * 1e12;
  }
  return 0;
}

double TimeModel::OpSeconds(const OpCount& count) {
  const OpSpeed* speed = SpeedOf(count.op, count.dtype);
  if (speed == nullptr) return 0;
  return trefoil::OpSeconds(*speed, DevicePeak(count.dtype), PerDevice(count, devices_per_rank_));
}

double TimeModel::BytesSent(const Exchanges& exchanges, double bytes) {
  double sent = 0;
  for (const Round& round : exchanges.rounds) sent += exchanges.BytesToEach(round, bytes) * (round.ranks - 1);
  return exchanges.times * sent;
}

double TimeModel::CollectiveSeconds(const Exchanges& exchanges, const std::vector<int>& members, double bytes) const {
  double seconds = 0;
  for (const Round& round : exchanges.rounds) {
    int near = 0;
    for (int digit = 1; digit < round.ranks; ++digit) {
      near += NodeOf(members[static_cast<size_t>(round.PeerOf(0, digit))]) == NodeOf(members.front());
    }
    const double to_each = exchanges.BytesToEach(round, bytes);
    seconds += std::max(LinkSeconds(cluster_.node(), to_each * near),
                        LinkSeconds(cluster_.network(), to_each * (round.ranks - 1 - near)));
  }
  return exchanges.times * seconds;
}

double TimeModel::MessageSeconds(int from, int to, double bytes) const {
  return LinkSeconds(NodeOf(from) == NodeOf(to) ? cluster_.node() : cluster_.network(), bytes);
}

}  // namespace trefoil
