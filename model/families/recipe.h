// What makes one family of transformer differ from another. A family is a recipe plus a ModelConfig; the layers read
// the recipe and know no family.
//
// Threads: plain values.
#pragma once

#include "model/model.pb.h"

namespace trefoil {

struct Recipe {
  enum class Norm { kLayerNorm, kRmsNorm } norm = Norm::kLayerNorm;
  enum class Activation { kGelu, kSwiGlu } activation = Activation::kGelu;
  bool bias = false;               // linear layers have one, but for queries, keys and values
  bool qkv_bias = false;           // those of queries, keys and values have one
  bool learned_positions = false;  // added to the embedding
  bool rotary = false;             // turned into queries and keys
  bool tied = false;               // the head's matrix is the embedding's
};

// GPT-2 (Radford et al. 2019) and GPT-3 (Brown et al. 2020).
Recipe GptRecipe();
// Llama 1 to 3 (Touvron et al. 2023; Dubey et al. 2024).
Recipe LlamaRecipe();

// Of a config whose family is set: the family's, with what the config says of it.
Recipe RecipeOf(const ModelConfig& config);

}  // namespace trefoil
