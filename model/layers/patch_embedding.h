// Patches to vectors: a linear layer on their pixels, which is a convolution whose stride is its width, a class token, and
// a learned vector for each place of the image (Dosovitskiy et al. 2021, equation 1).
//
//   patches [n, P] -> linear [n, C] + bias, or the class token + position of the place -> x [n, C]
//
// Each tensor rank embeds its own tokens; the weights are whole.
#pragma once

#include "model/layers/whole_linear.h"
#include "model/module.h"

namespace trefoil {

class PatchEmbedding : public Module {
 public:
  struct Saved : Module::Saved {
    Tensor patches;  // [n, P], in the working dtype
  };
  // Adds embedding.patch.{weight,bias}, embedding.class_token and embedding.position.weight [places, C].
  static void Declare(const ModelConfig& config, int module, ParameterTable* table);
  // Training on a sample: no gradient of pixels.
  static double Flops(const ModelConfig& config);
  PatchEmbedding(const ParameterStore& store, const ModelConfig& config, int module);

  // {} -> x [n, C]
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& none,
                  ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& dx,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;

 private:
  const ModelConfig config_;
  const int module_;
  const WholeLinear linear_;
  const ParameterView kinds_;      // [2, C]: the bias of patches, the class token
  const ParameterView positions_;  // [places, C]
};

}  // namespace trefoil
