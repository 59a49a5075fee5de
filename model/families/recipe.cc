#include "model/families/recipe.h"

#include <glog/logging.h>

#include <cmath>
#include <utility>

namespace trefoil {

namespace {

constexpr std::pair<ModelConfig::Activation, Activation> kActivations[] = {
    {ModelConfig::GELU_TANH, Activation::kGelu},
    {ModelConfig::GELU, Activation::kGeluErf},
    {ModelConfig::RELU, Activation::kRelu},
    {ModelConfig::SILU, Activation::kSilu},
};

Recipe FamilyRecipe(ModelConfig::Family family) {
  switch (family) {
    case ModelConfig::GPT:
      return GptRecipe();
    case ModelConfig::LLAMA:
      return LlamaRecipe();
    case ModelConfig::BERT:
      return BertRecipe();
    case ModelConfig::MODERN_BERT:
      return ModernBertRecipe();
    case ModelConfig::TRANSFORMER:
      return TransformerRecipe();
    case ModelConfig::T5:
      return T5Recipe();
    case ModelConfig::VIT:
      return VitRecipe();
    case ModelConfig::RNN:
    case ModelConfig::LSTM:
      return RecurrentRecipe();
    default:
      LOG(FATAL) << "model.family is not set";
  }
}

}  // namespace

Recipe RecipeOf(const ModelConfig& config) {
  Recipe recipe = FamilyRecipe(config.family());
  if (config.has_tied()) recipe.tied = config.tied();
  if (config.has_qkv_bias()) recipe.qkv_bias = config.qkv_bias();
  if (config.has_attention_output_bias()) recipe.attention_output_bias = config.attention_output_bias();
  if (config.has_mlp_bias()) recipe.mlp_bias = config.mlp_bias();
  if (config.has_qk_norm()) recipe.qk_norm = config.qk_norm();
  for (const auto& [name, activation] : kActivations) {
    if (config.activation() == name) recipe.activation = activation;
  }
  if (config.has_gated()) recipe.gated = config.gated();
  return recipe;
}

int64_t WindowOf(const ModelConfig& config, int layer) {
  const bool narrow = config.sliding_window() < config.sequence_length() && layer >= config.first_window_layer();
  return narrow ? config.sliding_window() : 0;
}

ModelConfig::Activation ActivationName(const Recipe& recipe) {
  for (const auto& [name, activation] : kActivations) {
    if (recipe.activation == activation) return name;
  }
  return ModelConfig::ACTIVATION_UNSET;
}

float InitialDeviation(const ModelConfig& config, int64_t inputs, int64_t outputs, bool residual) {
  const Recipe recipe = RecipeOf(config);
  const float given = config.initial_deviation();
  if (given == 0) {
    return recipe.glorot ? std::sqrt(2.0f / static_cast<float>(inputs + outputs))
                         : 1.0f / std::sqrt(static_cast<float>(inputs));
  }
  if (!residual || recipe.initial == Recipe::Initial::kAlike) return given;
  return given / std::sqrt(2.0f * static_cast<float>(config.layers()));
}

float EmbeddingDeviation(const ModelConfig& config) {
  if (config.initial_deviation() != 0) return config.initial_deviation();
  const Recipe recipe = RecipeOf(config);
  // Of one, where nothing multiplies what is looked up.
  return recipe.scaled_embedding ? 1.0f / std::sqrt(static_cast<float>(config.hidden())) : 1.0f;
}

}  // namespace trefoil
