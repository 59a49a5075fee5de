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

ParameterStore::HostState ParameterStore::State(bool owned_only) const {
  HostState state;
  for (const BucketMemory& memory : buckets_) {
    const int64_t begin = memory.shard_begin;
    const auto add = [&](const std::string& prefix, const Tensor& buffer) {
      auto* elements = static_cast<std::byte*>(buffer.raw());
      if (!device_.host_addressable()) {
        state.copies.push_back({.tensor = buffer, .host = std::make_unique<std::byte[]>(buffer.bytes())});
        elements = state.copies.back().host.get();
        device_.Download(buffer, elements);
      }
      for (const Piece& piece : PiecesOf(memory.bucket, begin, begin + memory.shard_elements())) {
        if (owned_only && !Owns(*piece.parameter)) continue;
        state.slices.push_back({.name = prefix + piece.parameter->name,
                                .dtype = DType::kFloat32,
                                .global = piece.parameter->shape,
                                .box = piece.box,
                                .data = elements + (piece.begin - begin) * static_cast<int64_t>(sizeof(float))});
      }
    };
    add("", memory.master);
    if (!trainable_) continue;
    add("adam.m/", memory.m);
    add("adam.v/", memory.v);
  }
  return state;
}

void ParameterStore::TakeBack(const HostState& state) {
  for (const HostState::Copy& copy : state.copies) device_.Upload(copy.host.get(), copy.tensor);
}

}  // namespace trefoil
