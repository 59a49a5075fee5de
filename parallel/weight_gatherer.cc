#include "parallel/weight_gatherer.h"

#include <glog/logging.h>

#include <algorithm>

namespace trefoil {

WeightGatherer::WeightGatherer(ParameterStore& store, Device& device, const AxisGroups& groups, TaskQueue& queue)
    : store_(store), groups_(groups), queue_(queue) {
  std::vector<bool> wanted;
  for (const BucketMemory& memory : store.buckets()) {
    buckets_.push_back(memory.bucket);
    wanted.push_back(memory.split_weights);
  }
  slots_ = SlotsFor(buckets_, wanted);
  for (const BucketSlots::Kind& kind : slots_.kinds) {
    std::vector<Tensor>& of_kind = memory_.emplace_back();
    for (int i = 0; i < kind.count; ++i) {
      of_kind.push_back(device.Allocate(store.working_dtype(), {kind.elements}, Purpose::kWeights));
    }
    held_.emplace_back(of_kind.size(), -1);
  }
  tickets_.resize(buckets_.size());
  if (!slots_.kinds.empty()) store.OnUse([this](int module) { Use(module); });
}

void WeightGatherer::Begin(const std::vector<int>& modules) {
  if (slots_.kinds.empty()) return;
  queue_.WaitForAll();  // gathers of a list that was not run to its end
  for (size_t i = 0; i < buckets_.size(); ++i) {
    if (slots_.kind_of[i] >= 0) store_.buckets()[i].weights = Tensor();
  }
  for (std::vector<int>& of_kind : held_) std::fill(of_kind.begin(), of_kind.end(), -1);
  modules_ = modules;
  gathers_ = ListGathers(modules, buckets_, slots_);
  next_use_ = 0;
  next_gather_ = 0;
}

void WeightGatherer::Use(int module) {
  const int use = next_use_++;
  CHECK(use < static_cast<int>(modules_.size()) && modules_[static_cast<size_t>(use)] == module)
      << "module " << module << " is not use " << use << " of the list of " << modules_.size();
  if (observer.use) observer.use(use);
  const auto start = [&](int until) {
    while (next_gather_ < gathers_.size() && gathers_[next_gather_].start <= use &&
           gathers_[next_gather_].use <= until) {
      Start(gathers_[next_gather_++]);
    }
  };
  start(use);
  TaskQueue::Ticket last = 0;
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    if (slots_.kind_of[bucket] >= 0 && buckets_[bucket].UsedBy(module)) last = std::max(last, tickets_[bucket]);
  }
  queue_.Wait(last);
  start(use + kPrefetch);
}

void WeightGatherer::Start(const Gather& gather) {
  const auto kind = static_cast<size_t>(slots_.kind_of[gather.bucket]), slot = static_cast<size_t>(gather.slot);
  int& held = held_[kind][slot];
  if (held >= 0) store_.buckets()[static_cast<size_t>(held)].weights = Tensor();
  held = static_cast<int>(gather.bucket);
  BucketMemory& memory = store_.buckets()[gather.bucket];
  memory.weights = memory_[kind][slot].Range(0, {memory.bucket.elements});
  if (observer.gather) observer.gather(gather.bucket, true);
  tickets_[gather.bucket] = queue_.Start([group = &groups_.Shards(memory.bucket.replicas), shard = memory.weight_shard,
                                          whole = memory.weights] { group->AllGather(shard, whole); });
  if (observer.gather) observer.gather(gather.bucket, false);
}

}  // namespace trefoil
