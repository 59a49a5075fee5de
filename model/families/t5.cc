#include "model/families/recipe.h"

namespace trefoil {

Recipe T5Recipe() {
  return {.structure = Recipe::Structure::kEncoderDecoder,
          .norm = Recipe::Norm::kRmsNorm,
          .activation = Activation::kGelu,
          .gated = true,
          .positions = Recipe::Positions::kRelative,
          .scaled_scores = false,
          .scaled_head = true,
          .norm_epsilon = 1e-6f,
          .own_deviations = true};
}

}  // namespace trefoil
