// The end of the network: final norm, projection onto the vocabulary, cross-entropy; the vocabulary split over the
// tensor ranks, and the logits made in chunks of rows, so that no rank ever holds the logits of all tokens or of the
// full vocabulary.
//
//   x [n, C] -> norm -> gather tokens h [N, C] -> per chunk of rows: logits [r, V/t] -> statistics, combined over ranks
//   -> loss [r], d_logits [r, V/t] -> dh [r, C], dW
//
// In training the forward makes the gradients too, while a chunk's logits are there: the backward has only the norm
// left. (The scale of the loss is known beforehand, and nothing stands between the loss and the end.)
#pragma once

#include "model/context.h"
#include "model/families/recipe.h"
#include "model/layers/norm.h"
#include "parallel/parameter_store.h"

namespace trefoil {

class Head {
 public:
  struct Saved {
    Norm::Saved norm;
    Tensor dh;    // [n, C]
    Tensor loss;  // [N] float32, per token, the same on all tensor ranks
  };

  // Adds head.norm and, untied, head.output.weight.
  static void Declare(const ModelConfig& config, int home, ParameterTable* table);
  Head(const ParameterStore& store, const ModelConfig& config);

  // With batch.training, adds to the output matrix's gradient.
  void Forward(const Context& context, const MicroBatch& batch, const Tensor& x, Saved* saved) const;
  // dx [n, C].
  Tensor Backward(const Context& context, const Saved& saved) const;
  // This rank's part of the logits of some rows, float32 [rows, V/t], to choose the next token from. No sequence
  // parallelism.
  Tensor Logits(const Context& context, const Tensor& x) const;

 private:
  const ModelConfig config_;
  const Norm norm_;
  Tensor weight_, d_weight_;
};

}  // namespace trefoil
