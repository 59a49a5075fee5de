#include "model/families/recipe.h"

namespace trefoil {

Recipe GptRecipe() {
  return {.norm = Recipe::Norm::kLayerNorm,
          .activation = Recipe::Activation::kGelu,
          .bias = true,
          .qkv_bias = true,
          .learned_positions = true,
          .rotary = false,
          .tied = true};
}

}  // namespace trefoil
