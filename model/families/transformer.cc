#include "model/families/recipe.h"

namespace trefoil {

Recipe TransformerRecipe() {
  return {.structure = Recipe::Structure::kEncoderDecoder,
          .norm = Recipe::Norm::kLayerNorm,
          .norm_place = Recipe::NormPlace::kAfter,
          .activation = Activation::kRelu,
          .bias = true,
          .qkv_bias = true,
          .attention_output_bias = true,
          .mlp_bias = true,
          .tied = true,
          .positions = Recipe::Positions::kSinusoidal,
          .scaled_embedding = true,
          .own_deviations = true,
          .glorot = true};
}

}  // namespace trefoil
