#include "model/families/recipe.h"

namespace trefoil {

Recipe RecurrentRecipe() {
  return {.structure = Recipe::Structure::kRecurrent,
          .bias = true,
          .positions = Recipe::Positions::kNone,
          .own_deviations = true};
}

}  // namespace trefoil
