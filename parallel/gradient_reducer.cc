#include "parallel/gradient_reducer.h"

#include <algorithm>
#include <utility>

#include "runtime/ops.h"

namespace trefoil {

GradientReducer::GradientReducer(ParameterStore& store, Device& device, TaskQueue& queue,
                                 const std::vector<int>& modules, const ReducerOptions& options)
    : store_(store), device_(device), queue_(queue), options_(options) {
  for (const int module : modules) added_[module] = 0;
  CHECK_EQ(options.micro_batches % options.sum_groups, 0);
  std::vector<Bucket> buckets;
  std::vector<bool> wanted;
  for (const BucketMemory& memory : store.buckets()) {
    buckets.push_back(memory.bucket);
    wanted.push_back(memory.bucket.trained && memory.split_gradients);
  }
  slots_ = SlotsFor(buckets, wanted);
  for (const BucketSlots::Kind& kind : slots_.kinds) {
    std::vector<Slot>& of_kind = made_.emplace_back();
    for (int i = 0; i < kind.count; ++i) {
      of_kind.push_back({.memory = device.Allocate(DType::kFloat32, {kind.elements}, Purpose::kGradients)});
      Fill(device, of_kind.back().memory, 0);
    }
  }
  if (!slots_.kinds.empty()) store.OnGradient([this](size_t bucket) { BringGradients(bucket); });
}

int GradientReducer::AddedTo(const Bucket& bucket) const {
  int added = options_.micro_batches;
  for (const auto& [module, of_module] : added_) {
    if (bucket.UsedBy(module)) added = std::min(added, of_module);
  }
  return added;
}

void GradientReducer::ModuleAdded(int module) {
  const auto found = added_.find(module);
  CHECK(found != added_.end()) << module;
  CHECK_LT(found->second, options_.micro_batches) << "module " << module << " is done already";
  const int group_size = options_.micro_batches / options_.sum_groups;
  for (size_t i = 0; i < store_.buckets().size(); ++i) {
    BucketMemory& memory = store_.buckets()[i];
    const Bucket& bucket = memory.bucket;
    if (!bucket.trained || !bucket.UsedBy(module)) continue;
    const int before = AddedTo(bucket);
    ++found->second;
    const int added = AddedTo(bucket);
    --found->second;
    if (added == before) continue;
    if (memory.split_gradients) {
      if (memory.gradients.defined()) ReduceIntoShard(i);
      if (added == options_.micro_batches) queue_.Start([this, &memory] { AddCopies(memory); });
      continue;
    }
    if (added % group_size == 0) FoldGroup(memory, added / group_size - 1);
    if (added == options_.micro_batches && ReplicasOf(memory).size() > 1) {
      queue_.Start([this, &memory] { ReduceOverReplicas(memory); });
    }
  }
  ++found->second;
}

void GradientReducer::FoldGroup(BucketMemory& memory, int group) {
  size_t level = 0;
  for (; (group >> level & 1) != 0; ++level) {
    Add(device_, memory.group_sums.at(level), memory.gradients, memory.gradients);
  }
  if (group + 1 == options_.sum_groups) return;
  Cast(device_, memory.gradients, memory.group_sums.at(level));
  Fill(device_, memory.gradients, 0);
}

void GradientReducer::AllModulesDone() {
  for (const BucketMemory& memory : store_.buckets()) {
    CHECK(!memory.bucket.trained || ReplicasOf(memory).size() == 1) << memory.bucket.module;
  }
  for (auto& [module, added] : added_) added = options_.micro_batches;
}

void GradientReducer::Finish() {
  for (auto& [module, added] : added_) {
    CHECK_EQ(added, options_.micro_batches) << "module " << module << " has gradients missing";
    added = 0;
  }
  queue_.WaitForAll();
  for (BucketMemory& memory : store_.buckets()) {
    if (!memory.bucket.trained) continue;
    CHECK(!memory.split_gradients || !memory.gradients.defined()) << memory.bucket.module;
    const SumOf before = ReplicasOf(memory).size() > 1 ? SumOf::kReplicas : SumOf::kRank;
    Show(before, memory, memory.shard_begin, memory.gradient_shard);
    ReduceOverTokens(memory);
    Group* const stages = options_.tied.Of(memory.bucket);
    if (stages != nullptr) stages->AllReduceSum(memory.gradient_shard);
    Show(SumOf::kAll, memory, memory.shard_begin, memory.gradient_shard);
  }
}

void GradientReducer::BringGradients(size_t bucket) {
  std::vector<Slot>& of_kind = made_[static_cast<size_t>(slots_.kind_of[bucket])];
  Slot* best = nullptr;
  const auto rank = [](const Slot& slot) {
    const bool taken = slot.bucket >= 0;
    return std::pair(taken, taken ? slot.taken : slot.reduced);
  };
  for (Slot& slot : of_kind) {
    if (slot.bucket >= 0 && store_.InUse(static_cast<size_t>(slot.bucket))) continue;
    if (best == nullptr || rank(slot) < rank(*best)) best = &slot;
  }
  CHECK(best != nullptr) << "no room for gradients of module " << store_.buckets()[bucket].bucket.module;
  if (best->bucket >= 0) ReduceIntoShard(static_cast<size_t>(best->bucket));
  queue_.Wait(best->reduced);
  best->bucket = static_cast<int>(bucket);
  best->taken = ++taken_;
  BucketMemory& memory = store_.buckets()[bucket];
  memory.gradients = best->memory.Range(0, {memory.bucket.elements});
}

void GradientReducer::ReduceIntoShard(size_t bucket) {
  std::vector<Slot>& of_kind = made_[static_cast<size_t>(slots_.kind_of[bucket])];
  const auto slot = std::find_if(of_kind.begin(), of_kind.end(),
                                 [&](const Slot& one) { return one.bucket == static_cast<int>(bucket); });
  CHECK(slot != of_kind.end());
  BucketMemory& memory = store_.buckets()[bucket];
  slot->bucket = -1;
  slot->reduced = queue_.Start([this, &memory, group = &options_.groups.Shards(memory.bucket.replicas),
                                whole = std::exchange(memory.gradients, Tensor()), begin = memory.shard_begin,
                                sum = memory.gradient_shard] {
    Show(SumOf::kRank, memory, 0, whole);
    const Tensor part = whole.Range(begin, sum.shape());
    group->ReduceScatterSum(whole, part);
    Add(device_, sum, part, sum);
    Fill(device_, whole, 0);
  });
}

void GradientReducer::GatherWeights(BucketMemory& memory) {
  if (memory.split_weights || ReplicasOf(memory).size() == 1) return;
  queue_.Start([this, &memory] { store_.GatherWeights(memory, options_.groups); });
}

void GradientReducer::FinishGathers() { queue_.WaitForAll(); }

void GradientReducer::ReduceOverReplicas(BucketMemory& memory) {
  Show(SumOf::kRank, memory, 0, memory.gradients);
  if (memory.shard_elements() == memory.bucket.elements) {
    ReplicasOf(memory).AllReduceSum(memory.gradients);
  } else {
    options_.groups.Shards(memory.bucket.replicas).ReduceScatterSum(memory.gradients, memory.gradient_shard);
    AddCopies(memory);
  }
}

void GradientReducer::AddCopies(BucketMemory& memory) {
  Group* const copies = options_.groups.Copies(memory.bucket.replicas);
  if (copies != nullptr) copies->AllReduceSum(memory.gradient_shard);
}

AxisSet GradientReducer::PartialOver(const Parameter& parameter) const {
  return (parameter.partial_over & options_.tokens) | parameter.summed_over;
}

// One message for all such parameters of the bucket: they are small and many.
void GradientReducer::ReduceOverTokens(BucketMemory& memory) {
  std::map<AxisSet, std::vector<Tensor>> parts;
  const int64_t begin = memory.shard_begin;
  for (const Piece& piece : PiecesOf(memory.bucket, begin, begin + memory.shard_elements())) {
    const AxisSet axes = PartialOver(*piece.parameter);
    if (axes.empty() || options_.groups[axes].size() == 1) continue;
    parts[axes].push_back(memory.gradient_shard.Range(piece.begin - begin, {piece.box.extent.elements()}));
  }
  for (const auto& [axes, of_axes] : parts) AddUp(of_axes, options_.groups[axes]);
}

void GradientReducer::AddUp(const std::vector<Tensor>& parts, Group& group) {
  int64_t elements = 0;
  for (const Tensor& part : parts) elements += part.elements();
  const Tensor packed = device_.Allocate(DType::kFloat32, {elements}, Purpose::kCommunication);
  int64_t at = 0;
  for (const Tensor& part : parts) {
    Cast(device_, part, packed.Range(at, part.shape()));
    at += part.elements();
  }
  group.AllReduceSum(packed);
  at = 0;
  for (const Tensor& part : parts) {
    Cast(device_, packed.Range(at, part.shape()), part);
    at += part.elements();
  }
}

}  // namespace trefoil
