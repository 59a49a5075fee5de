#include "model/families/recipe.h"

namespace trefoil {

Recipe LlamaRecipe() {
  return {.norm = Recipe::Norm::kRmsNorm,
          .activation = Recipe::Activation::kSwiGlu,
          .bias = false,
          .qkv_bias = false,
          .learned_positions = false,
          .rotary = true,
          .tied = false};
}

}  // namespace trefoil
