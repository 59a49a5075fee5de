#include "model/families/recipe.h"

namespace trefoil {

Recipe LlamaRecipe() {
  return {.norm = Recipe::Norm::kRmsNorm,
          .activation = Activation::kSilu,
          .gated = true,
          .positions = Recipe::Positions::kRotary,
          .dropout = false,
          .initial = Recipe::Initial::kResidual};
}

}  // namespace trefoil
