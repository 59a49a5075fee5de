#include "model/families/recipe.h"

namespace trefoil {

Recipe BertRecipe() {
  return {.structure = Recipe::Structure::kEncoder,
          .norm = Recipe::Norm::kLayerNorm,
          .norm_place = Recipe::NormPlace::kAfter,
          .activation = Activation::kGeluErf,
          .bias = true,
          .qkv_bias = true,
          .attention_output_bias = true,
          .mlp_bias = true,
          .tied = true,
          .positions = Recipe::Positions::kLearned,
          .segments = true,
          .embedding_norm = true,
          .transform = true,
          .output_bias = true,
          .pooler = true,
          .norm_epsilon = 1e-12f};
}

Recipe ModernBertRecipe() {
  return {.structure = Recipe::Structure::kEncoder,
          .norm = Recipe::Norm::kRmsNorm,
          .activation = Activation::kGeluErf,
          .gated = true,
          .tied = true,
          .positions = Recipe::Positions::kRotary,
          .transform = true,
          .output_bias = true,
          .dropout = false,
          .initial = Recipe::Initial::kResidual};
}

}  // namespace trefoil
