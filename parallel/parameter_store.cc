#include "parallel/parameter_store.h"

#include <algorithm>

#include "runtime/ops.h"
#include "runtime/random.h"

namespace trefoil {

ParameterStore::ParameterStore(const ParameterTable& table, const Mesh& mesh, const std::vector<int>& homes,
                               Device& device, DType working, bool split_optimizer, bool trainable)
    : mesh_(mesh),
      homes_(homes),
      working_(working),
      split_optimizer_(split_optimizer),
      trainable_(trainable),
      device_(device) {
  CHECK(trainable || working == DType::kFloat32) << "a store that is not trained has no master weights";
  for (Bucket& bucket : PlaceParameters(table, mesh, homes)) {
    const int64_t n = bucket.elements;
    const int64_t shard = split_optimizer ? n / mesh.size(Axis::kData) : n;
    BucketMemory memory;
    memory.shard_begin = split_optimizer ? shard * mesh.index(Axis::kData) : 0;
    memory.bucket = std::move(bucket);
    memory.weights = device.Allocate(working, {n}, Purpose::kWeights);
    Fill(device, memory.weights, 0);
    memory.master = working == DType::kFloat32 ? memory.weights.Range(memory.shard_begin, {shard})
                                               : device.Allocate(DType::kFloat32, {shard}, Purpose::kOptimizer);
    if (trainable) {
      memory.gradients = device.Allocate(DType::kFloat32, {n}, Purpose::kGradients);
      memory.m = device.Allocate(DType::kFloat32, {shard}, Purpose::kOptimizer);
      memory.v = device.Allocate(DType::kFloat32, {shard}, Purpose::kOptimizer);
      for (const Tensor& zeros : {memory.gradients, memory.master, memory.m, memory.v}) Fill(device, zeros, 0);
    }
    buckets_.push_back(std::move(memory));
  }
}

Tensor ParameterStore::View(const std::vector<std::string>& names, Tensor BucketMemory::*buffer) const {
  for (const BucketMemory& memory : buckets_) {
    const auto& entries = memory.bucket.entries;
    auto first = std::find_if(entries.begin(), entries.end(),
                              [&](const BucketEntry& e) { return e.parameter->name == names.front(); });
    if (first == entries.end()) continue;
    CHECK_LE(names.size(), static_cast<size_t>(entries.end() - first)) << names.front();
    Shape shape = first->box.extent;
    for (size_t i = 1; i < names.size(); ++i) {
      const BucketEntry& entry = *(first + static_cast<ptrdiff_t>(i));
      CHECK_EQ(entry.parameter->name, names[i]) << "not stored behind " << names[i - 1];
      CHECK_EQ(entry.begin, (&entry - 1)->end()) << names[i] << " is not fused with " << names[i - 1];
      shape[0] += entry.box.extent[0];
    }
    return (memory.*buffer).Range(first->begin, shape);
  }
  LOG(FATAL) << "this rank does not hold parameter " << names.front();
}

Tensor ParameterStore::Weight(const std::vector<std::string>& names) const {
  return View(names, &BucketMemory::weights);
}

Tensor ParameterStore::Gradient(const std::vector<std::string>& names) const {
  return trainable_ ? View(names, &BucketMemory::gradients) : Tensor();
}

void ParameterStore::Initialize(uint64_t seed, Group& data) {
  for (BucketMemory& memory : buckets_) {
    const int64_t begin = memory.shard_begin;
    for (const Piece& piece : PiecesOf(memory.bucket, begin, begin + memory.shard_elements())) {
      const Parameter& parameter = *piece.parameter;
      const Tensor x = memory.master.Range(piece.begin - begin, piece.box.extent);
      if (parameter.initial == Initial::kNormal) {
        FillNormal(device_, x, parameter.shape, piece.box.offset, RandomKey(seed, parameter.name), parameter.deviation);
      } else {
        Fill(device_, x, parameter.initial == Initial::kOnes ? 1 : 0);
      }
    }
  }
  PublishMasterWeights(data);
}

void ParameterStore::PublishMasterWeights(Group& data) {
  for (BucketMemory& memory : buckets_) {
    if (working_ != DType::kFloat32) Cast(device_, memory.master, memory.WeightShard());
    GatherWeights(memory, data);
  }
}

void ParameterStore::GatherWeights(BucketMemory& memory, Group& data) {
  if (split_optimizer_ && data.size() > 1) data.AllGather(memory.WeightShard(), memory.weights);
}

bool ParameterStore::Owns(const Parameter& parameter) const {
  const bool home_here = std::find(homes_.begin(), homes_.end(), parameter.home) != homes_.end();
  const bool first_tensor_rank = parameter.split_dim >= 0 || mesh_.index(Axis::kTensor) == 0;
  const bool first_data_rank = split_optimizer_ || mesh_.index(Axis::kData) == 0;
  return home_here && first_tensor_rank && first_data_rank;
}

int ParameterStore::state_parts() const { return static_cast<int>(buckets_.size()) * buffers(); }

int64_t ParameterStore::most_copied_bytes() const {
  int64_t most = 0;
  if (device_.host_addressable()) return most;
  for (const BucketMemory& memory : buckets_) most = std::max(most, memory.master.bytes());
  return most;
}

ParameterStore::StatePart ParameterStore::State(int part, Elements elements) const {
  const BucketMemory& memory = buckets_.at(static_cast<size_t>(part / buffers()));
  const Tensor* const buffers_of[] = {&memory.master, &memory.m, &memory.v};
  const char* const prefixes[] = {"", "adam.m/", "adam.v/"};
  const int buffer = part % buffers();
  const int64_t begin = memory.shard_begin;
  StatePart state;
  state.tensor = *buffers_of[buffer];
  std::vector<int64_t> places;
  for (const Piece& piece : PiecesOf(memory.bucket, begin, begin + memory.shard_elements())) {
    if (elements == Elements::kOwned && !Owns(*piece.parameter)) continue;
    state.slices.push_back({.name = prefixes[buffer] + piece.parameter->name,
                            .dtype = DType::kFloat32,
                            .global = piece.parameter->shape,
                            .box = piece.box});
    places.push_back((piece.begin - begin) * static_cast<int64_t>(sizeof(float)));
  }
  if (state.slices.empty()) return state;
  auto* data = static_cast<std::byte*>(state.tensor.raw());
  if (!device_.host_addressable()) {
    // Zeros where nothing is copied: a bucket's padding stays zero when the copy is taken back.
    state.copy = std::make_unique<std::byte[]>(static_cast<size_t>(state.tensor.bytes()));
    data = state.copy.get();
    if (elements != Elements::kToFill) device_.Download(state.tensor, data);
  }
  for (size_t i = 0; i < places.size(); ++i) state.slices[i].data = data + places[i];
  return state;
}

void ParameterStore::TakeBack(const StatePart& part) {
  if (part.copy != nullptr) device_.Upload(part.copy.get(), part.tensor);
}

}  // namespace trefoil
