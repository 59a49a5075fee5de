// This rank's parameters in memory: working weights for the layers, gradients, and the optimizer's state.
//
// Three placements of one global shape. Over the tensor axis and the pipeline all three follow the layers. Over the data
// axis: weights and gradients are whole on every rank; master weights and moments are whole (ZeRO stage 0) or this
// rank's share of each bucket (stage 1; Rajbhandari et al. 2020). Where the working dtype is float32 the master weights
// are the working weights themselves, not a copy.
//
//   ParameterStore store(table, mesh, homes, device, DType::kBFloat16, /*split_optimizer=*/true);
//   store.Initialize(seed, data_group);
//   Tensor w = store.Weight({"blocks.0.attention.q.weight", "blocks.0.attention.k.weight", ...});  // one matrix
//
// Threads: built on one; after that tensors are the users' to synchronise.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/collectives.h"
#include "parallel/placement.h"
#include "runtime/device.h"

namespace trefoil {

// A bucket and its memory. All flat; n = bucket.elements, s = n / data ranks with a split optimizer, else n.
struct BucketMemory {
  Bucket bucket;
  int64_t shard_begin = 0;  // this rank's share of the optimizer state: elements [shard_begin, shard_begin + s)
  Tensor weights;           // [n] working dtype
  Tensor gradients;         // [n] float32
  Tensor master, m, v;      // [s] float32
  int64_t shard_elements() const { return master.elements(); }
  Tensor GradientShard() const { return gradients.Range(shard_begin, {shard_elements()}); }
  Tensor WeightShard() const { return weights.Range(shard_begin, {shard_elements()}); }
};

class ParameterStore {
 public:
  // `table` and `device` outlive the store. Gradients and moments start as zeros, weights undefined. Without
  // `trainable` only weights are held (to generate text).
  ParameterStore(const ParameterTable& table, const Mesh& mesh, const std::vector<int>& homes, Device& device,
                 DType working, bool split_optimizer, bool trainable = true);

  // This rank's slice of one parameter; of several that are stored back to back, as one stacked on dim 0.
  Tensor Weight(const std::vector<std::string>& names) const;
  Tensor Gradient(const std::vector<std::string>& names) const;

  std::vector<BucketMemory>& buckets() { return buckets_; }
  DType working_dtype() const { return working_; }

  // Random initial weights: each element a function of (seed, name, global index) only.
  void Initialize(uint64_t seed, Group& data);
  // After the working weights of this rank's shard changed: brings those of every data rank up to date.
  void GatherWeights(BucketMemory& memory, Group& data);
  // After master weights were set (loaded): converts them into working weights and gathers those.
  void PublishMasterWeights(Group& data);

  // Master weights ("NAME") and moments ("adam.m/NAME", "adam.v/NAME") as slices: on the CPU pointing into this store's
  // memory, on other devices into copies on the host. With `owned_only`, each element of the global model is listed by
  // exactly one rank of the job: what a checkpoint writes. Without: all that this rank needs to load.
  struct HostState {
    std::vector<ShardedTensor> slices;
    struct Copy {
      Tensor tensor;
      std::unique_ptr<std::byte[]> host;
    };
    std::vector<Copy> copies;
  };
  HostState State(bool owned_only) const;
  // After slices' elements were changed (loaded): brings them to the device.
  void TakeBack(const HostState& state);

  // Whether this rank is the one that speaks for a parameter of a bucket, where several hold the same elements.
  bool Owns(const Parameter& parameter) const;

 private:
  Tensor View(const std::vector<std::string>& names, Tensor BucketMemory::*buffer) const;

  const Mesh mesh_;
  const std::vector<int> homes_;
  const DType working_;
  const bool split_optimizer_, trainable_;
  Device& device_;
  std::vector<BucketMemory> buckets_;
};

}  // namespace trefoil
