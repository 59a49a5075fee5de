// The end of a network that says tokens: final norm, projection onto the vocabulary, cross-entropy; the vocabulary split
// over the tensor ranks, and the logits made in chunks of rows, so that no rank ever holds the logits of all tokens or of
// the full vocabulary.
//
//   x [n, C] -> norm -> gather tokens h [N, C] -> per chunk of rows: logits [r, V/t] -> statistics, combined over ranks
//   -> loss [r], d_logits [r, V/t] -> dh [r, C], dW
//
// Behind a TokenTransform (token_transform.h) x is what this gave of the tokens that have targets, h [M, C] on every rank:
// then there is no norm and nothing to gather, and each rank's backward gives the whole dh.
//
// A tied T5 divides h by sqrt(C) first (Recipe::scaled_head).
//
// In training the forward makes the gradients too, while a chunk's logits are there: the backward has only the norm
// left. (The scale of the loss is known beforehand, and nothing stands between the loss and the end.)
//
// Where the backward comes in two (ForwardPass::divided), the three products, which take equal times, stand apart: the
// forward ends with d_logits, the backward of the input makes dh of them and that of the weights dW. The d_logits of
// the whole micro-batch [N, V/t] and h wait so long, in the working dtype; nothing is computed twice, and both ways
// give the same bits where micro-batches come in the same order.
#pragma once

#include <optional>

#include "model/context.h"
#include "model/families/recipe.h"
#include "model/layers/norm.h"
#include "model/module.h"
#include "parallel/parameter_store.h"

namespace trefoil {

class Head : public Module {
 public:
  struct Saved : Module::Saved {
    Norm::Saved norm;
    Tensor dh;           // [n, C]; undefined where the backward comes in two
    Tensor h, d_logits;  // [n, C], [N, V/t]; undefined where it does not
  };

  // Adds head.norm, where there is one, untied head.output.weight, and head.output.bias where the recipe has it.
  static void Declare(const ModelConfig& config, int module, ParameterTable* table);
  // Training on a sample: 6 per parameter and target, of a tied matrix too.
  static double Flops(const ModelConfig& config);
  Head(const ParameterStore& store, const ModelConfig& config, int module);

  // x [n, C] -> {}, and kTokenLoss; of an encoder kCorrect as well. In training, and not divided, adds to the output
  // matrix's gradient.
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override;
  // {} -> dx [n, C]
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& none,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;
  // This rank's part of the logits of some rows, float32 [rows, V/t], to choose the next token from. No sequence
  // parallelism.
  Tensor Logits(const Context& context, const Tensor& x) const;

 private:
  // What the matrix multiplies, of what came in, for this rank's tokens; and the gradient of what came in.
  Tensor Input(const Context& context, const Tensor& x, Norm::Saved* saved) const;
  Tensor InputBackward(const Context& context, const Tensor& dh, const Norm::Saved& saved) const;
  // Rows whose logits are made at once.
  int64_t ChunkRows(int64_t rows) const;
  // The gradient of what came in, from partial sums of that of all rows.
  Tensor ReduceGradient(const Context& context, const Tensor& all_dh) const;
  // dW += d_logits^T h, and the bias's.
  void AddGradients(const Context& context, const Tensor& d_logits, const Tensor& h) const;

  const ModelConfig config_;
  const int module_;
  const bool transformed_;  // behind a TokenTransform
  const float scale_;       // of h
  const std::optional<Norm> norm_;
  const ParameterView weight_;
  ParameterView bias_;  // undefined where there is none
};

}  // namespace trefoil
