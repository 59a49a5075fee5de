#include "model/families/recipe.h"

#include <glog/logging.h>

namespace trefoil {

namespace {

Recipe FamilyRecipe(ModelConfig::Family family) {
  switch (family) {
    case ModelConfig::GPT:
      return GptRecipe();
    case ModelConfig::LLAMA:
      return LlamaRecipe();
    default:
      LOG(FATAL) << "model.family is not set";
  }
}

}  // namespace

Recipe RecipeOf(const ModelConfig& config) {
  Recipe recipe = FamilyRecipe(config.family());
  if (config.has_tied()) recipe.tied = config.tied();
  if (config.has_qkv_bias()) recipe.qkv_bias = config.qkv_bias();
  return recipe;
}

}  // namespace trefoil
