#include "model/families/recipe.h"

#include <glog/logging.h>

namespace trefoil {

Recipe RecipeOf(const ModelConfig& config) {
  switch (config.family()) {
    case ModelConfig::GPT:
      return GptRecipe();
    case ModelConfig::LLAMA:
      return LlamaRecipe();
    default:
      LOG(FATAL) << "model.family is not set";
  }
}

}  // namespace trefoil
