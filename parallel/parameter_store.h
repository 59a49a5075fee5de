// This rank's parameters in memory: working weights for the layers, gradients, and the optimizer's state.
//
// Three placements of one global shape. Over the axes that split parameters all three follow the layers. Over those
// that replicate them (of each bucket: parallel/placement.h) each is whole on every rank or this rank's share of each
// bucket: nothing is split (ZeRO stage 0), master weights and the optimizer's state are (stage 1; Rajbhandari et al.
// 2020), gradients too (stage 2), weights too (stage 3). What is split is whole for a while only: weights while a
// module is used (parallel/weight_gatherer.h), gradients until they have been reduced (parallel/gradient_reducer.h).
// Where the working dtype is float32 the master weights are the working weights themselves, not a copy.
//
//   ParameterStore store(table, mesh, modules, device, {.working = DType::kBFloat16, .optimizer = adamw.layout()});
//   store.Initialize(seed, groups);
//   const ParameterView qkv = store.View({"blocks.0.attention.q.weight", ...});  // of q, k and v: one matrix
//   {
//     const ParameterStore::Use use = store.UseModule(1);   // block 0 runs
//     Matmul(device, x, Transpose::kNo, qkv.weight(), Transpose::kYes, y);
//   }
//
// Layers keep views and not tensors: where weights and gradients lie between two uses of their module is the store's.
//
// Threads: built on one; after that tensors are the users' to synchronise.
#pragma once

#include <compare>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/axis_groups.h"
#include "parallel/placement.h"
#include "runtime/device.h"

namespace trefoil {

// A bucket and its memory. All flat; n = bucket.elements, s = n / ranks that share it out (parallel/placement.h) with a
// split optimizer, else n. One that is not trained has weights and master weights only.
struct BucketMemory {
  Bucket bucket;
  int64_t shard_begin = 0;    // this rank's share of the optimizer state: elements [shard_begin, shard_begin + s)
  // [n] working dtype, and float32. Where they are split, undefined but while they are whole.
  Tensor weights, gradients;
  // Of those this rank's share [s]: a range of the whole, or all that is kept.
  Tensor weight_shard, gradient_shard;
  bool split_weights = false, split_gradients = false;
  // [n] float32 each: number i holds the sum of 2^i groups of micro-batches that waits for as many behind them
  // (parallel/gradient_reducer.h).
  std::vector<Tensor> group_sums;
  Tensor master;              // [s] float32; undefined where it is not trainable and the working dtype is another
  std::vector<Tensor> state;  // [s] float32 each, as the optimizer's group declares them
  int64_t shard_elements() const { return weight_shard.elements(); }
};

struct StoreOptions {
  DType working = DType::kFloat32;
  OptimizerLayout optimizer = {};
  // What this rank keeps a share of: the optimizer's state, with it gradients, with these weights.
  bool split_optimizer = false, split_gradients = false, split_weights = false;
  int copies = 1;         // of what is shared out over the data ranks
  int group_sums = 0;     // of each bucket; none with split gradients
  bool trainable = true;  // else only working weights are held: to use a model that is trained
};

class ParameterStore;

// One parameter's slice, or several's that are stored back to back, as one stacked on dim 0. A plain value; the store
// outlives it.
class ParameterView {
 public:
  ParameterView() = default;  // of no parameter: its tensors are undefined
  bool defined() const { return store_ != nullptr; }
  // Whether there are gradients of it.
  bool trained() const;
  const Shape& shape() const { return shape_; }
  // In the working dtype, and float32 (undefined where it is not trained). CHECKs that a module of the
  // parameter is in use, and for that; valid until it no longer is.
  Tensor weight() const;
  Tensor gradient() const;

 private:
  friend class ParameterStore;
  ParameterView(const ParameterStore& store, size_t bucket, int64_t begin, const Shape& shape)
      : store_(&store), bucket_(bucket), begin_(begin), shape_(shape) {}

  const ParameterStore* store_ = nullptr;
  size_t bucket_ = 0;
  int64_t begin_ = 0;  // in the bucket
  Shape shape_;
};

class ParameterStore {
 public:
  // What a module is used for: its weights and, where there are some, gradients; gradients alone; or weights, and what
  // comes of gradients on the way to others is kept apart where gradients are split (TakeApart).
  enum class Purposes { kAll, kGradients, kWeights };
  // While one exists, the parameters of a module are in use.
  class Use {
   public:
    Use(const ParameterStore& store, int module, Purposes purposes);
    Use(Use&& other) noexcept
        : store_(std::exchange(other.store_, nullptr)), module_(other.module_), purposes_(other.purposes_) {}
    Use& operator=(Use&&) = delete;
    ~Use();

   private:
    const ParameterStore* store_;
    int module_;
    Purposes purposes_;
  };

  // `table` and `device` outlive the store. Gradients and the optimizer's state start as zeros, weights undefined.
  ParameterStore(const ParameterTable& table, const Mesh& mesh, const std::vector<int>& modules, Device& device,
                 StoreOptions options);

  ParameterView View(const std::vector<std::string>& names) const;
  [[nodiscard]] Use UseModule(int module, Purposes purposes = Purposes::kAll) const {
    return Use(*this, module, purposes);
  }
  // Gradients that were asked for while a module was in use for its weights: tensors of their own, to be added to the
  // view's when it is used for its gradients, so that a bucket is made and reduced once.
  struct Apart {
    ParameterView view;
    Tensor gradient;
  };
  std::vector<Apart> TakeApart() const { return std::exchange(apart_, {}); }
  bool InUse(size_t bucket) const { return uses_[bucket] > 0; }
  // Called at the beginning of each use of weights, before they are looked at; and when a module that is in use asks for
  // gradients of a bucket that are split and not there. What is missing must be there on return.
  void OnUse(std::function<void(int module)> bring) { bring_weights_ = std::move(bring); }
  void OnGradient(std::function<void(size_t bucket)> bring) { bring_gradients_ = std::move(bring); }
  // A view's tensors at once, whatever is in use: to look at parameters or to set them between steps. CHECKs that they
  // are whole.
  Tensor Weight(const std::vector<std::string>& names) const;
  Tensor Gradient(const std::vector<std::string>& names) const;

  std::vector<BucketMemory>& buckets() { return buckets_; }
  const std::vector<BucketMemory>& buckets() const { return buckets_; }
  DType working_dtype() const { return options_.working; }
  const OptimizerGroup& OptimizerGroupOf(const BucketMemory& memory) const {
    return options_.optimizer.groups[memory.bucket.optimizer_group];
  }

  // `groups`: has one along the replicas of each bucket.
  // Random initial weights: each element a function of (seed, name, global index) only.
  void Initialize(uint64_t seed, const AxisGroups& groups);
  // After the working weights of this rank's shard changed: brings those of every replica up to date, unless they are
  // split.
  void GatherWeights(BucketMemory& memory, const AxisGroups& groups);
  // After master weights were set (loaded): converts them into working weights and gathers those.
  void PublishMasterWeights(const AxisGroups& groups);

  // Master weights ("NAME") and the optimizer's state ("adam.m/NAME" ...) as slices, in parts: one buffer of one bucket
  // each, so that a name is in one part only. On devices whose memory the host cannot reach, and where there are no
  // master weights, the slices point into a copy on the host that lives as long as the part: whoever takes one part at a
  // time needs most_copied_bytes() of host memory.
  struct StatePart {
    bool of_weights = false;  // else of the optimizer's state
    std::vector<ShardedTensor> slices;
    Tensor tensor;
    std::unique_ptr<std::byte[]> copy;  // of `tensor`, float32; null where the host reaches that
  };
  int state_parts() const { return static_cast<int>(state_buffers_.size()); }
  int64_t most_copied_bytes() const;
  // kOwned: each element of the global model is listed by exactly one rank of the job: what a checkpoint writes. Ranks
  // that hold the same elements list as many each. Nothing else is copied. kHeld: all that this rank has. kToFill: the
  // same slices, their elements yet to be given (zeros in a copy): what is loaded. kNone: the same slices, without
  // elements.
  enum class Elements { kOwned, kHeld, kToFill, kNone };
  StatePart State(int part, Elements elements) const;
  // After slices' elements were given: brings them to the device.
  void TakeBack(const StatePart& part);

  // What kOwned lists of all parts, in their order, and where it lies on the device; the slices have no elements.
  struct StateRange {
    ShardedTensor slice;
    Tensor tensor;
  };
  std::vector<StateRange> OwnedState() const;

  // Whether this rank is the one that speaks for a parameter of a bucket, where several hold the same elements.
  bool Owns(const Parameter& parameter) const;

 private:
  friend class ParameterView;
  // The ranks that hold the same elements of a parameter's state, and which of them this one is.
  struct Holders {
    int count = 1, index = 0;
    auto operator<=>(const Holders&) const = default;
  };
  Holders HoldersOf(const Parameter& parameter) const;
  // Of a parameter that several stages hold, one speaks.
  bool HasModuleOf(const Parameter& parameter) const;
  std::vector<Piece> OwnedPieces(const BucketMemory& memory) const;
  // Marks a module's buckets as used once more, or once less (times: 1, -1).
  void CountUse(int module, Purposes purposes, int times) const;

  // Of the state: the master weights of `memory`, or its optimizer state number `state`.
  struct StateBuffer {
    const BucketMemory* memory;
    int state = -1;
  };

  Tensor InFloat32(const Tensor& x) const;
  // A buffer's tensor, and the slices in it with the element at which each begins.
  const Tensor& TensorOf(const StateBuffer& buffer) const;
  std::vector<std::pair<ShardedTensor, int64_t>> SlicesOf(const StateBuffer& buffer, bool owned_only) const;

  const Mesh mesh_;
  const std::vector<int> modules_;
  const StoreOptions options_;
  Device& device_;
  std::vector<BucketMemory> buckets_;
  std::vector<StateBuffer> state_buffers_;  // by part
  // Of each bucket, now: uses, and those of weights. Of the main thread.
  mutable std::vector<int> uses_, weight_uses_;
  mutable int uses_of_weights_alone_ = 0;
  mutable std::vector<Apart> apart_;
  std::function<void(int)> bring_weights_;
  std::function<void(size_t)> bring_gradients_;
};

}  // namespace trefoil
