// What layers work with: where they run, and the micro-batch in hand.
//
// Shapes in this room: B batch, T tokens, N = B * T rows, n this rank's share of the rows between the matrices (N / t
// with sequence parallelism over t tensor ranks, else N), C hidden, H heads, K key/value heads, D head dim,
// F feed-forward, V vocabulary, L layers. A local size is written H/t.
//
// Threads: the rank's main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/collectives/group.h"
#include "parallel/parallel.pb.h"
#include "runtime/device.h"
#include "runtime/ops.h"

namespace trefoil {

// Which values an inspector is shown: activations of the forward, or gradients of activations.
enum class Pass { kForward, kBackward };
// Shown what the layers compute, in order of computation: of a module (parallel/parameter.h), by name ("blocks.3.mlp").
// In the backward x is the gradient of what goes into the named layer. Called between ops; x is on the device.
using Inspector = std::function<void(Pass pass, int module, const std::string& name, const Tensor& x)>;

struct Context {
  Device& device;
  Group& tensor;                   // the ranks that share each layer's matrices
  bool sequence_parallel = false;  // tokens are split over `tensor` between the matrices
  DType dtype = DType::kFloat32;   // of activations and working weights
  ParallelConfig::Recompute recompute = ParallelConfig::NOTHING;
  uint64_t dropout_seed = 0;
  bool float8 = false;  // the blocks' linear layers multiply in fp8; dtype is bfloat16 then
  const Inspector* inspector = nullptr;  // null or empty: nobody looks

  Tensor New(Shape shape) const { return device.Allocate(dtype, shape, Purpose::kActivations); }
  Tensor NewFloat(Shape shape) const { return device.Allocate(DType::kFloat32, shape, Purpose::kActivations); }

  // Shows x to the inspector, if there is one.
  void Inspect(Pass pass, int module, const std::string& prefix, const char* suffix, const Tensor& x) const {
    if (inspector != nullptr && *inspector) (*inspector)(pass, module, prefix + suffix, x);
  }

  bool splits_tokens() const { return sequence_parallel && tensor.size() > 1; }
  // n for N, and the first of this rank's rows.
  int64_t LocalRows(int64_t rows) const { return splits_tokens() ? rows / tensor.size() : rows; }
  int64_t FirstLocalRow(int64_t rows) const { return splits_tokens() ? tensor.rank() * (rows / tensor.size()) : 0; }

  // [n, C] -> [N, C]: every token, for a matrix whose columns are split.
  Tensor GatherTokens(const Tensor& x) const;
  // Partial sums [N, C] -> their sum over the tensor ranks, for this rank's tokens [n, C]. May reuse x.
  Tensor ReduceTokens(const Tensor& x) const;
};

// Samples that go through the model together. Holds all that a pass needs to know of the data.
struct MicroBatch {
  int64_t samples = 0, tokens = 0;  // B, T
  int64_t first_sample = 0;         // number within the run of row 0: what dropout is keyed by
  bool training = true;
  // The head's gradients are of loss_scale * (sum of the weighted losses): 1 / (targets of the global batch).
  float loss_scale = 0;
  // A batch's tensors (data/batch.h) on the device, undefined where this rank does not look at them.
  Tensor inputs = {}, positions = {};  // [N] int32 each, for the embedding; positions: row modulo T
  Tensor targets = {};                 // [N] int32, for the head
  // [N] float32, of the targets; undefined: all 1. In training their mean over the global batch is 1.
  Tensor weights = {};

  int64_t rows() const { return samples * tokens; }
};

// Weight gradients of one chunk's backward: run at once, or kept until the schedule says so.
class WeightGradients {
 public:
  explicit WeightGradients(bool at_once) : at_once_(at_once) {}
  void Add(std::function<void()> gradient) {
    if (at_once_) {
      gradient();
    } else {
      queue_.push_back(std::move(gradient));
    }
  }
  void Run() {
    for (auto& gradient : queue_) gradient();
    queue_.clear();
  }

 private:
  const bool at_once_;
  std::vector<std::function<void()>> queue_;
};

// What to drop at `site` ("blocks.3.mlp"): a function of seed, site, sample and element, whatever the layout. The rows
// of the tensor to drop from are this rank's n of the micro-batch.
DropoutMask MaskOf(const Context& context, const MicroBatch& batch, float probability, const std::string& site,
                   int64_t columns);

}  // namespace trefoil
