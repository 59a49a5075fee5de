// What layers work with: where they run, and the micro-batch in hand.
//
// Shapes in this room: B batch, T tokens of each sample that this rank and those beside it on the tensor axis have (all
// of them without context parallelism), N = B * T rows, n this rank's share of the rows between the matrices (N / t
// with sequence parallelism over t tensor ranks, else N), C hidden, H heads, K key/value heads, D head dim, F
// feed-forward, V vocabulary, L layers. A local size is written H/t.
//
// Threads: the rank's main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
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

// Shown each attention of the forward by name ("blocks.3.attention"): what it was told, and the log-sum-exp of its scores
// [B, H/t, Tq]. Called when that is computed; all is on the device.
using AttentionProbe = std::function<void(const std::string& name, const AttentionShape& shape, const AttentionHeads& heads,
                                          const Tensor& log_sum_exp)>;

struct Context {
  Device& device;
  Group& tensor;                   // the ranks that share each layer's matrices
  bool sequence_parallel = false;  // tokens are split over `tensor` between the matrices
  // The ranks that share each sample's tokens, attention included, and how they attend together. Null: none but this.
  Group* token_ranks = nullptr;
  ParallelConfig::ContextMethod context_method = ParallelConfig::RING;
  DType dtype = DType::kFloat32;   // of activations and working weights
  ParallelConfig::Recompute recompute = ParallelConfig::NOTHING;
  uint64_t dropout_seed = 0;
  bool float8 = false;  // the blocks' linear layers multiply in fp8; dtype is bfloat16 then
  const Inspector* inspector = nullptr;  // null or empty: nobody looks
  const AttentionProbe* attention_probe = nullptr;
  // Modules before this one have nothing that is trained, nor have those before them: they run as in an evaluation,
  // without dropout, keep nothing and have no backward.
  int first_trained_module = 0;

  Tensor New(Shape shape) const { return device.Allocate(dtype, shape, Purpose::kActivations); }
  Tensor NewFloat(Shape shape) const { return device.Allocate(DType::kFloat32, shape, Purpose::kActivations); }

  // Shows x to the inspector, if there is one.
  void Inspect(Pass pass, int module, const std::string& prefix, const char* suffix, const Tensor& x) const {
    if (inspector != nullptr && *inspector) (*inspector)(pass, module, prefix + suffix, x);
  }

  bool splits_samples() const { return token_ranks != nullptr && token_ranks->size() > 1; }
  bool splits_tokens() const { return sequence_parallel && tensor.size() > 1; }
  // n for N, and the first of this rank's rows.
  int64_t LocalRows(int64_t rows) const { return splits_tokens() ? rows / tensor.size() : rows; }
  int64_t FirstLocalRow(int64_t rows) const { return splits_tokens() ? tensor.rank() * (rows / tensor.size()) : 0; }
  // Of a tensor of all rows [N, ...] this rank's [n, ...], where they lie.
  Tensor LocalTokens(const Tensor& all) const {
    const int64_t first = FirstLocalRow(all.dim(0));
    return all.Rows(first, first + LocalRows(all.dim(0)));
  }

  // [n, C] -> [N, C]: every token, for a matrix whose columns are split.
  Tensor GatherTokens(const Tensor& x) const;
  // Partial sums [N, C] -> their sum over the tensor ranks, for this rank's tokens [n, C]. May reuse x.
  Tensor ReduceTokens(const Tensor& x) const;
};

// A network reads one sequence of each sample, or an encoder reads one and a decoder another.
enum class Side { kInput, kDecoder };

// Those of a micro-batch. Tensors are on the device, undefined where this rank does not look at them.
struct Sequences {
  TokenRanges tokens = {};  // which of a sample's tokens its T rows here are
  int64_t length = 0;       // tokens of a whole sample
  Tensor ids = {};        // [N] int32, for the embedding
  Tensor positions = {};  // [N] int32: each row's place in its sample, or in its document
  Tensor lengths = {};    // [B] int32: tokens that are real; undefined: T each
  // Int32, where the document of a token begins (AttentionShape::starts): of the rows whose queries attend on this
  // rank, [N] or, with ALL_TO_ALL, those of whole samples. Undefined: a sample is one document.
  Tensor starts = {};
  Tensor buckets = {};    // [2T - 1] int32: of relative positions (model/relative_positions.h)
  Tensor sinusoids = {};  // [length, C] working dtype (model/sinusoids.h)
  // Of all context ranks' rows one behind the other [c * N], int32, for ALL_TO_ALL: which of them each of the samples'
  // rows in order is, and the other way round.
  Tensor gathered_rows = {}, rows_of_gathered = {};

  bool is_whole() const { return tokens == TokenRanges(length); }
};

// Rows of a micro-batch in the order of time, for recurrent layers (model/time_steps.h): which row is where, all int32.
struct TimeSteps {
  Tensor rows_of_steps = {}, parts_of_steps = {};    // [directions * N], [directions * N]
  Tensor steps_of_rows = {}, outputs_of_rows = {};   // [directions * N], [N * directions]
  Tensor columns_of_ranks = {}, ranks_of_columns = {};  // [B * t] each
};

struct Continuation;  // model/key_value_cache.h

// Samples that go through the model together. Holds all that a pass needs to know of the data (data/batch.h).
struct MicroBatch {
  int64_t samples = 0;       // B
  int64_t first_sample = 0;  // number within the run of row 0: what dropout is keyed by
  bool training = true;
  // The head's gradients are of loss_scale * (sum of the weighted losses): 1 / (targets of the global batch).
  float loss_scale = 0;
  float label_smoothing = 0;  // of the run's training (Szegedy et al. 2016); an evaluation takes as much memory

  Sequences input = {}, decoder = {};
  Tensor segments = {};      // [N] int32
  // Of images. A masked autoencoder's decoder has a row for each place of the image.
  Tensor patches = {};                         // [N, P] float32
  Tensor patch_places = {}, patch_kinds = {};  // [N] int32; kinds: 1 for the class token, else 0
  Tensor visible_rows = {}, masked = {};       // [decoder's N] int32: the encoder's row of a place, -1 if masked; 0 if masked
  Tensor rows_of_visible = {};                 // [N] int32: the decoder's row
  TimeSteps time_steps = {};
  // Of tokens behind others whose keys and values are kept: `samples` is 1 then, its tokens those of all texts. Null: a
  // sample's tokens are all there are. Outlives the pass.
  const Continuation* continuation = nullptr;

  // U targets a sample, M = B * U in all.
  int64_t targets_of_sample = 0;
  Tensor targets = {};  // [M] int32
  Tensor values = {};   // [M, P] float32
  // Of which row each target is, and of which target each row: -1 where of none. Undefined: target m of row m.
  Tensor target_rows = {}, row_targets = {};  // [M], [N] int32
  // [M] float32, of the targets; undefined: all 1. In training their mean over the global batch is 1.
  Tensor weights = {};

  // Its shapes, as which another of the same step may do.
  MicroBatch WithoutTensors() const {
    return {.samples = samples,
            .training = training,
            .input = {.tokens = input.tokens, .length = input.length},
            .decoder = {.tokens = decoder.tokens, .length = decoder.length},
            .targets_of_sample = targets_of_sample};
  }
  // Of a loss over so many tokens or classes, and the numbers of a row that it is made of (runtime/ops.h).
  LabelSmoothing smoothing(int64_t vocabulary) const {
    return {.share = training ? label_smoothing : 0, .vocabulary = vocabulary};
  }
  int64_t loss_statistics() const { return label_smoothing > 0 ? 4 : 3; }
  const Sequences& of(Side side) const { return side == Side::kInput ? input : decoder; }
  int64_t rows(Side side = Side::kInput) const { return samples * of(side).tokens.tokens(); }
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
  // Each gives up what it kept when it is done.
  void Run() {
    for (auto& gradient : queue_) std::exchange(gradient, nullptr)();
    queue_.clear();
  }
  bool at_once() const { return at_once_; }

 private:
  const bool at_once_;
  std::vector<std::function<void()>> queue_;
};

// What to drop at `site` ("blocks.3.mlp"): a function of seed, site, sample and element, whatever the layout. The rows
// of the tensor to drop from are this rank's n of the micro-batch.
DropoutMask MaskOf(const Context& context, const MicroBatch& batch, float probability, const std::string& site,
                   int64_t columns, Side side = Side::kInput);

}  // namespace trefoil
