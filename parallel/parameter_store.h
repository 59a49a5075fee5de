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

#include "parallel/collectives/group.h"
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

  // Master weights ("NAME") and moments ("adam.m/NAME", "adam.v/NAME") as slices, in parts: one buffer of one bucket each,
  // so that a name is in one part only. On devices whose memory the host cannot reach, the slices point into a copy on
  // the host that lives as long as the part: whoever takes one part at a time needs most_copied_bytes() of host memory.
  struct StatePart {
    std::vector<ShardedTensor> slices;
    Tensor tensor;
    std::unique_ptr<std::byte[]> copy;  // of `tensor`; null where the host reaches it
  };
  int state_parts() const;
  int64_t most_copied_bytes() const;
  // kOwned: each element of the global model is listed by exactly one rank of the job: what a checkpoint writes. Nothing
  // is copied for a part that has none. kHeld: all that this rank has. kToFill: the same slices, their elements yet to
  // be given (zeros in a copy): what is loaded.
  enum class Elements { kOwned, kHeld, kToFill };
  StatePart State(int part, Elements elements) const;
  // After slices' elements were given: brings them to the device.
  void TakeBack(const StatePart& part);

  // Whether this rank is the one that speaks for a parameter of a bucket, where several hold the same elements.
  bool Owns(const Parameter& parameter) const;

 private:
  Tensor View(const std::vector<std::string>& names, Tensor BucketMemory::*buffer) const;
  int buffers() const { return trainable_ ? 3 : 1; }  // of a bucket, in the state

  const Mesh mesh_;
  const std::vector<int> homes_;
  const DType working_;
  const bool split_optimizer_, trainable_;
  Device& device_;
  std::vector<BucketMemory> buckets_;
};

}  // namespace trefoil
