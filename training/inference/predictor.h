// What a trained model says: of any family, from a checkpoint that any layout has written.
//
//   Predictor predictor(model, *world, *device);
//   TREFOIL_RETURN_IF_ERROR(predictor.Load(fs, "runs/a/checkpoints/step-00000500"));
//   Rows classes = predictor.Outputs(batch);                       // an encoder, a ViT, a bidirectional LSTM
//   Rows next = predictor.Next(prefixes);                          // a decoder, an LSTM
//   Predictor::Memory memory = predictor.Encode(batch);            // an encoder-decoder
//   Rows next = predictor.Next(memory, prefixes);
//
// What is said of tokens and of classes are log-probabilities. A batch may be of any size and, of text, of any length
// up to that of the model; prefixes that go in together may be of any lengths: each gets what it would get alone, but
// for rounding.
//
// One rank, float32, no gradients; the weights stay on the device, activations as long as a call takes. Nothing is kept
// from one token to the next: each looks at its whole prefix anew.
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

class Predictor {
 public:
  // World of one rank; it and the device outlive the predictor. The model config is complete.
  Predictor(const ModelConfig& model, World& world, Device& device);
  // Failure: no such checkpoint, one that is damaged, or one of another model.
  absl::Status Load(FileSystem& fs, const std::string& checkpoint_folder);

  const ModelConfig& model() const { return config_.model(); }
  // From now on shown each attention; empty: nobody looks. The one before.
  AttentionProbe Watch(AttentionProbe probe) { return std::exchange(probe_, std::move(probe)); }

  // A network that says something of whole samples or of chosen tokens (head CLASSES, VALUE or PATCHES; an encoder's
  // TOKENS). Rows are the batch's targets, `places`, and where that is undefined all its tokens: log-probabilities [M,
  // K] of classes or tokens, or values. Targets themselves are not looked at.
  Rows Outputs(const Batch& batch);

  // A network that writes from left to right. Log-probabilities [prefixes, V] of the token behind each, which has one
  // token at least; of a longer one than the model's sequence_length the last so many count.
  Rows Next(std::span<const Prefix> prefixes);

  // What an encoder has made of a batch.
  struct Memory {
    Tensor states;                 // [B * T, C]
    int64_t tokens = 0;            // T
    std::vector<int32_t> lengths;  // [B]
  };
  // Of `inputs` and, if there are some, `lengths`.
  Memory Encode(const Batch& batch);
  // Of what the decoder has read so far, its first token included: one to decoder_length tokens, each prefix about
  // sample `text` of the memory.
  Rows Next(const Memory& memory, std::span<const Prefix> prefixes);

 private:
  // What modules [begin, end) read of it.
  MicroBatch Upload(const Batch& batch, int begin, int end) const;
  Rows LogProbabilities(const Tensor& logits);
  // Of the tokens behind prefixes that were padded to `length`, from what comes before the head.
  Rows NextOf(const MicroBatch& batch, const Tensor& x, int64_t length, std::span<const Prefix> prefixes);

  const RunConfig config_;
  Device& device_;
  AttentionProbe probe_;
  const ParameterTable table_;
  const StagePlace place_;
  const std::unique_ptr<Group> group_;
  ParameterStore store_;
  Transformer network_;
  const int decoder_;  // its first module; of what has no decoder of its own the head
};

}  // namespace trefoil
