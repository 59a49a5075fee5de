#include "model/families/recipe.h"

namespace trefoil {

Recipe VitRecipe() {
  return {.structure = Recipe::Structure::kVision,
          .norm = Recipe::Norm::kLayerNorm,
          .activation = Activation::kGeluErf,
          .bias = true,
          .qkv_bias = true,
          .attention_output_bias = true,
          .mlp_bias = true,
          .positions = Recipe::Positions::kLearned,
          .norm_epsilon = 1e-12f};
}

}  // namespace trefoil
