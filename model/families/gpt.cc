#include "model/families/recipe.h"

namespace trefoil {

Recipe GptRecipe() {
  return {.norm = Recipe::Norm::kLayerNorm,
          .activation = Activation::kGelu,
          .bias = true,
          .qkv_bias = true,
          .attention_output_bias = true,
          .mlp_bias = true,
          .tied = true,
          .positions = Recipe::Positions::kLearned,
          .initial = Recipe::Initial::kResidual};
}

}  // namespace trefoil
