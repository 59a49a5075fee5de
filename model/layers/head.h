// The end of the network: final norm, projection onto the vocabulary, cross-entropy; the vocabulary split over the
// tensor ranks, and the logits made in chunks of rows, so that no rank ever holds the logits of all tokens or of the
// full vocabulary.
//
//   x [n, C] -> norm -> gather tokens h [N, C] -> per chunk of rows: logits [r, V/t] -> statistics, combined over ranks
//   -> loss [r], d_logits [r, V/t] -> dh [r, C], dW
//
// In training the forward makes the gradients too, while a chunk's logits are there: the backward has only the norm
// left. (The scale of the loss is known beforehand, and nothing stands between the loss and the end.)
//
// Where the backward comes in two (ForwardPass::divided), the three products, which take equal times, stand apart: the
// forward ends with d_logits, the backward of the input makes dh of them and that of the weights dW. The d_logits of
// the whole micro-batch [N, V/t] and h wait so long, in the working dtype; nothing is computed twice, and both ways
// give the same bits where micro-batches come in the same order.
#pragma once

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
    Tensor h, d_logits;  // [N, C], [N, V/t]; undefined where it does not
  };

  // Adds head.norm and, untied, head.output.weight.
  static void Declare(const ModelConfig& config, int module, ParameterTable* table);
  // 6 per parameter, of a tied matrix too.
  static double FlopsPerToken(const ModelConfig& config);
  Head(const ParameterStore& store, const ModelConfig& config, int module);

  // x [n, C] -> {}, and kTokenLoss. In training, and not divided, adds to the output matrix's gradient.
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override;
  // {} -> dx [n, C]
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& none,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;
  // This rank's part of the logits of some rows, float32 [rows, V/t], to choose the next token from. No sequence
  // parallelism.
  Tensor Logits(const Context& context, const Tensor& x) const;

 private:
  // Rows whose logits are made at once.
  int64_t ChunkRows(int64_t rows) const;

  const ModelConfig config_;
  const int module_;
  const Norm norm_;
  ParameterView weight_;
};

}  // namespace trefoil
