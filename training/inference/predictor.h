// What a trained model says: of any family, from a checkpoint that any layout has written, on any layout.
//
//   Predictor predictor(model, {.tensor = 2, .pipeline = 2}, *world, *device);   // on each of 4 ranks
//   TREFOIL_RETURN_IF_ERROR(predictor.Load(fs, "runs/a/checkpoints/step-00000500"));
//   Rows classes = predictor.Outputs(batch);                       // an encoder, a ViT, a bidirectional LSTM
//   Rows next = predictor.Next(prefixes);                          // a decoder, an LSTM
//   std::vector<TokenScore> scores = predictor.Score(batch);       // how likely its targets are
//   Predictor::Memory memory = predictor.Encode(batch);            // an encoder-decoder
//   Rows next = predictor.Next(memory, prefixes);
//
// What is said of tokens and of classes are log-probabilities. A batch may be of any size and, of text, of any length
// up to that of the model; prefixes that go in together may be of any lengths: each gets what it would get alone, but
// for rounding.
//
// Ranks that are more than tensor x pipeline are further copies of the whole, each for itself: its ranks make the same
// calls in the same order with the same arguments, and all of them get the results. Only Load is of all ranks.
//
// No gradients; the weights stay on the device, activations as long as a call takes. Nothing is kept from one token to
// the next: each looks at its whole prefix anew. A decoder that keeps what it has read is training/inference/kept_texts.h.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/batch.h"
#include "runtime/files/file.h"
#include "training/inference/next_token.h"
#include "training/worker.h"

namespace trefoil {

struct InferenceLayout {
  int tensor = 1, pipeline = 1;
  TrainingConfig::Precision precision = TrainingConfig::FP32;  // or BF16: of weights and activations
};

// Of a token that is known.
struct TokenScore {
  float log_probability = 0;
  bool likeliest = false;  // no token is likelier
};

class Predictor {
 public:
  // tensor x pipeline divides the ranks of the world, and the rules of parallel.* allow it; the model config is complete.
  // World and device outlive the predictor.
  Predictor(const ModelConfig& model, const InferenceLayout& layout, World& world, Device& device);
  // Each rank reads its slices. Failure, the same on all ranks: no such checkpoint, one that is damaged, or one of another
  // model.
  absl::Status Load(FileSystem& fs, const std::string& checkpoint_folder);

  const ModelConfig& model() const { return config_.model(); }
  Device& device() { return device_; }
  int rank() const { return mesh_.rank(); }
  // The copies of the whole, and which of them this rank belongs to.
  int copies() const { return mesh_.size(Axis::kData); }
  int copy() const { return mesh_.index(Axis::kData); }
  // From now on shown each attention of this rank; empty: nobody looks. The one before.
  AttentionProbe Watch(AttentionProbe probe) { return std::exchange(probe_, std::move(probe)); }

  // A network that says something of whole samples or of chosen tokens (head CLASSES, VALUE or PATCHES; an encoder's
  // TOKENS). Rows are the batch's targets, `places`, and where that is undefined all its tokens: log-probabilities [M,
  // K] of classes or tokens, or values. Targets themselves are not looked at.
  Rows Outputs(const Batch& batch);

  // Of each of the batch's targets, tokens all, whatever its weight. Batches are those of training, of any length.
  std::vector<TokenScore> Score(const Batch& batch);

  // A network that writes from left to right. Log-probabilities [prefixes, V] of the token behind each, which has one
  // token at least; of a longer one than the model's sequence_length the last so many count.
  Rows Next(std::span<const Prefix> prefixes);

  // What an encoder has made of a batch.
  struct Memory {
    Tensor states;                 // [B * T, C]; undefined on stages that do not have the decoder's beginning
    int64_t tokens = 0;            // T
    std::vector<int32_t> lengths;  // [B]
  };
  // Of `inputs` and, if there are some, `lengths`.
  Memory Encode(const Batch& batch);
  // Of what the decoder has read so far, its first token included: one to decoder_length tokens, each prefix about
  // sample `text` of the memory.
  Rows Next(const Memory& memory, std::span<const Prefix> prefixes);

  // For what goes through the decoder in other ways (training/inference/kept_texts.h). What comes before the head of these
  // tokens, whose rows are in this micro-batch's order; undefined on stages without the head.
  Tensor BeforeHead(const MicroBatch& batch);
  // Of the tokens behind some rows of that: log-probabilities; or of certain ones.
  Rows NextOf(const MicroBatch& batch, const Tensor& before_head, const std::vector<int32_t>& rows);
  std::vector<TokenScore> ScoreOf(const MicroBatch& batch, const Tensor& before_head, const Tensor& targets);
  // Whether this rank's stage begins, or ends, the model.
  bool has_first_stage() const { return network_.first_module() == 0; }
  bool has_head() const { return network_.end_module() > head_; }
  Tensor UploadIds(const std::vector<int32_t>& ids) const;

 private:
  // What this rank's modules among [begin, end) read of it.
  MicroBatch Upload(const Batch& batch, int begin, int end) const;
  // What modules [begin, end) make of x, on the stage that has module `end`; elsewhere nothing. x is of the stage that has
  // module `begin`.
  Tensors Pass(const MicroBatch& batch, Tensors x, int begin, int end);
  // Of classes, or of this rank's part of the vocabulary.
  Rows LogProbabilities(const Tensor& logits, bool of_vocabulary);
  // [rows]: of all parts of the vocabulary. `loss`, `correct`: of the targets (runtime/ops.h); correct may be undefined.
  Tensor LogSumExp(const Tensor& logits, const Tensor& targets, bool of_vocabulary, const Tensor& loss,
                   const Tensor& correct);
  Tensor Chosen(const Tensor& x, const std::vector<int32_t>& rows) const;
  Tensor Floats(Shape shape) const;
  // Of the last stage's numbers, on every stage.
  Rows ToAllStages(Rows rows);

  const RunConfig config_;
  Device& device_;
  const Mesh mesh_;
  Group& all_;
  AttentionProbe probe_;
  const ParameterTable table_;
  const AxisGroups groups_;
  Group &tensor_, &pipeline_;
  const StagePlace place_;
  ParameterStore store_;
  Transformer network_;
  const int head_;     // its module
  const int decoder_;  // its first module; of what has no decoder of its own the head
};

}  // namespace trefoil
