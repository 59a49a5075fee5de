// From the encoder of visible patches to the decoder of all (He et al. 2022, section 3): the encoder's last norm, a linear
// layer to the decoder's width, a learned mask token wherever a patch was masked, and a learned vector for each place.
//
//   x [n, C] -> norm -> linear [n, Cd] -> gather tokens -> to their places [m, Cd] + mask tokens + positions -> y [m, Cd]
//
// N rows of the encoder's side, M of the decoder's, m this rank's share of them.
#pragma once

#include "model/layers/norm.h"
#include "model/layers/whole_linear.h"
#include "model/module.h"

namespace trefoil {

// The config of a masked autoencoder's decoder: its width, heads and layers in place of the encoder's.
ModelConfig PatchDecoderConfig(const ModelConfig& config);

class PatchDecoder : public Module {
 public:
  struct Saved : Module::Saved {
    Norm::Saved norm;
    Tensor h;  // [n, C]
  };
  // Adds encoder.norm.*, decoder.embedding.{weight,bias}, decoder.mask_token and decoder.position.weight.
  static void Declare(const ModelConfig& config, int module, ParameterTable* table);
  static double Flops(const ModelConfig& config);
  PatchDecoder(const ParameterStore& store, const ModelConfig& config, int module);

  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& dy,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;

 private:
  const int module_;
  const Norm norm_;
  const WholeLinear linear_;
  const ParameterView mask_token_, positions_;
};

}  // namespace trefoil
