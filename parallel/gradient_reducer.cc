#include "parallel/gradient_reducer.h"

#include <algorithm>

#include "runtime/ops.h"

namespace trefoil {

GradientReducer::GradientReducer(ParameterStore& store, Device& device, const std::vector<int>& modules,
                                 const ReducerOptions& options)
    : store_(store), device_(device), options_(options) {
  for (const int module : modules) added_[module] = 0;
  CHECK_EQ(options.micro_batches % options.sum_groups, 0);
  const auto has_replicas = [&](const BucketMemory& memory) {
    return memory.bucket.trained && ReplicasOf(memory).size() > 1;
  };
  const std::vector<BucketMemory>& buckets = store.buckets();
  if (device.computes() && std::any_of(buckets.begin(), buckets.end(), has_replicas)) {
    thread_ = std::thread([this] { Run(); });
  }
}

GradientReducer::~GradientReducer() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
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
  for (BucketMemory& memory : store_.buckets()) {
    const Bucket& bucket = memory.bucket;
    if (!bucket.trained || !bucket.UsedBy(module)) continue;
    const int before = AddedTo(bucket);
    ++found->second;
    const int added = AddedTo(bucket);
    --found->second;
    if (added == before) continue;
    if (added % group_size == 0) FoldGroup(memory, added / group_size - 1);
    if (added == options_.micro_batches && ReplicasOf(memory).size() > 1) Start(Task::kReduce, memory);
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
  WaitForThread();
  for (BucketMemory& memory : store_.buckets()) {
    if (!memory.bucket.trained) continue;
    ReduceOverTokens(memory);
    Group* const stages = options_.tied.Of(memory.bucket);
    if (stages != nullptr) stages->AllReduceSum(memory.gradient_shard);
  }
}

void GradientReducer::GatherWeights(BucketMemory& memory) {
  if (ReplicasOf(memory).size() > 1) Start(Task::kGather, memory);
}

void GradientReducer::FinishGathers() { WaitForThread(); }

void GradientReducer::Start(Task task, BucketMemory& memory) {
  if (!thread_.joinable()) {
    Perform(task, memory);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    queue_.push_back({.task = task, .memory = &memory, .written = device_.MarkWork()});
  }
  changed_.notify_all();
}

void GradientReducer::Perform(Task task, BucketMemory& memory) {
  if (task == Task::kReduce) {
    ReduceOverReplicas(memory);
  } else {
    store_.GatherWeights(memory, options_.groups);
  }
}

void GradientReducer::WaitForThread() {
  if (!thread_.joinable()) return;
  const Waiting waiting(*ReplicasOf(store_.buckets().front()).membership().patience);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
  device_.WaitFor(performed_);
}

void GradientReducer::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    const Ready ready = queue_.front();
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    device_.WaitFor(ready.written);
    Perform(ready.task, *ready.memory);
    const Device::Mark performed = device_.MarkWork();
    lock.lock();
    performed_ = performed;
    busy_ = false;
    changed_.notify_all();
  }
}

void GradientReducer::ReduceOverReplicas(BucketMemory& memory) {
  if (memory.shard_elements() == memory.bucket.elements) {
    ReplicasOf(memory).AllReduceSum(memory.gradients);
  } else {
    ReplicasOf(memory).ReduceScatterSum(memory.gradients, memory.gradient_shard);
  }
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
