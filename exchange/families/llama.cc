// Llama (Touvron et al. 2023) and the families whose names are its own: Mistral, Qwen2 and 2.5, Qwen3, SmolLM2.
#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>

#include "exchange/families/family.h"
#include "exchange/families/shared_fields.h"

namespace trefoil {
namespace {

const NameRow kRows[] = {
    {"embedding.token.weight", "model.embed_tokens.weight"},
    {"blocks.#.attention_norm.weight", "model.layers.#.input_layernorm.weight"},
    {"blocks.#.attention.q.*", "model.layers.#.self_attn.q_proj.*"},
    {"blocks.#.attention.k.*", "model.layers.#.self_attn.k_proj.*"},
    {"blocks.#.attention.v.*", "model.layers.#.self_attn.v_proj.*"},
    {"blocks.#.attention.q_norm.weight", "model.layers.#.self_attn.q_norm.weight"},
    {"blocks.#.attention.k_norm.weight", "model.layers.#.self_attn.k_norm.weight"},
    {"blocks.#.attention.output.*", "model.layers.#.self_attn.o_proj.*"},
    {"blocks.#.mlp_norm.weight", "model.layers.#.post_attention_layernorm.weight"},
    {"blocks.#.mlp.gate.*", "model.layers.#.mlp.gate_proj.*"},
    {"blocks.#.mlp.up.*", "model.layers.#.mlp.up_proj.*"},
    {"blocks.#.mlp.down.*", "model.layers.#.mlp.down_proj.*"},
    {"head.norm.weight", "model.norm.weight"},
    {"head.output.weight", "lm_head.weight"},
};

// Made from the config.
constexpr const char* kIgnored[] = {"*.rotary_emb.inv_freq"};

struct Defaults {
  int32_t kv_heads = 0;  // 0: as many as heads
  int32_t head_dim = 0;  // 0: hidden / heads
  double epsilon = 1e-6;
  int32_t length = 2048;
  int32_t vocabulary = 32000;
};

void ReadSizes(ConfigFields& fields, const Defaults& defaults, ForeignModel* foreign) {
  foreign->task = "NEXT_TOKEN";
  ModelConfig& model = foreign->model;
  model.set_family(ModelConfig::LLAMA);
  model.set_hidden(fields.Int("hidden_size"));
  model.set_layers(fields.Int("num_hidden_layers"));
  model.set_heads(fields.Int("num_attention_heads"));
  model.set_feed_forward(fields.Int("intermediate_size"));
  model.set_kv_heads(fields.Int("num_key_value_heads", defaults.kv_heads));
  model.set_head_dim(fields.Int("head_dim", defaults.head_dim));
  model.set_vocabulary(fields.Int("vocab_size", defaults.vocabulary));
  model.set_sequence_length(fields.Int("max_position_embeddings", defaults.length));
  model.set_norm_epsilon(static_cast<float>(fields.Number("rms_norm_eps", defaults.epsilon)));
  model.set_tied(fields.Bool("tie_word_embeddings", false));
  ReadActivation(fields, "hidden_act", "silu", &model);
  ReadRotary(fields, 10000, &model);
  if (fields.Number("attention_dropout", 0) != 0) fields.Wrong("attention_dropout: must be 0 for LLAMA");
  if (fields.Number("partial_rotary_factor", 1) != 1) fields.Wrong("partial_rotary_factor: must be 1");
  fields.Ignore("pretraining_tp");  // how sums were split
}

void ReadAttentionBias(ConfigFields& fields, ModelConfig* model) {
  const bool bias = fields.Bool("attention_bias", false);
  model->set_qkv_bias(bias);
  model->set_attention_output_bias(bias);
}

void ReadLlama(ConfigFields& fields, bool, ForeignModel* foreign) {
  ReadSizes(fields, {}, foreign);
  ReadAttentionBias(fields, &foreign->model);
  foreign->model.set_mlp_bias(fields.Bool("mlp_bias", false));
  for (const char* name : {"rope_interleaved", "is_llama_config"}) fields.Ignore(name);  // of copies of other origin
}

// Where layers from max_window_layers on have a window, if any has.
void ReadWindowOfSomeLayers(ConfigFields& fields, ModelConfig* model) {
  const bool windows = fields.Bool("use_sliding_window", false);
  const int32_t window = fields.Int("sliding_window", 4096), first = fields.Int("max_window_layers", 28);
  const auto has_window = [&](int32_t layer) { return windows && layer >= first; };
  if (has_window(model->layers() - 1)) {
    model->set_sliding_window(window);
    model->set_first_window_layer(first);
  }
  const std::vector<std::string> types = fields.Words("layer_types");
  for (size_t i = 0; i < types.size(); ++i) {
    const char* const type = has_window(static_cast<int32_t>(i)) ? "sliding_attention" : "full_attention";
    if (types[i] == type) continue;
    return fields.Wrong(absl::StrCat("layer_types: layer ", i, " is \"", types[i], "\", must be \"", type,
                                     "\" as use_sliding_window and max_window_layers have it"));
  }
}

void ReadMistral(ConfigFields& fields, bool, ForeignModel* foreign) {
  ReadSizes(fields, {.kv_heads = 8, .length = 131072}, foreign);
  const int32_t window = fields.Int("sliding_window", 4096);
  foreign->model.set_sliding_window(fields.IsNull("sliding_window") ? 0 : window);
}

void ReadQwen2(ConfigFields& fields, bool, ForeignModel* foreign) {
  ReadSizes(fields, {.length = 32768, .vocabulary = 151936}, foreign);
  foreign->model.set_qkv_bias(true);
  ReadWindowOfSomeLayers(fields, &foreign->model);
}

void ReadQwen3(ConfigFields& fields, bool, ForeignModel* foreign) {
  ReadSizes(fields, {.head_dim = 128, .length = 32768, .vocabulary = 151936}, foreign);
  foreign->model.set_qk_norm(true);
  ReadAttentionBias(fields, &foreign->model);
  ReadWindowOfSomeLayers(fields, &foreign->model);
}

nlohmann::json WriteSizes(const ForeignModel& foreign, const char* architecture) {
  const ModelConfig& model = foreign.model;
  nlohmann::json config = {{"architectures", {architecture}},
                           {"hidden_size", model.hidden()},
                           {"num_hidden_layers", model.layers()},
                           {"num_attention_heads", model.heads()},
                           {"num_key_value_heads", model.kv_heads()},
                           {"head_dim", model.head_dim()},
                           {"intermediate_size", model.feed_forward()},
                           {"vocab_size", model.vocabulary()},
                           {"max_position_embeddings", model.sequence_length()},
                           {"rms_norm_eps", ShortestDouble(model.norm_epsilon())},
                           {"tie_word_embeddings", model.tied()},
                           {"hidden_act", ActivationName(model)},
                           {"attention_dropout", 0.0}};
  WriteRotary(model, &config);
  return config;
}

void WriteWindowOfSomeLayers(const ModelConfig& model, nlohmann::json* config) {
  const bool windows = model.sliding_window() > 0;
  nlohmann::json types = nlohmann::json::array();
  for (int layer = 0; layer < model.layers(); ++layer) {
    types.push_back(windows && layer >= model.first_window_layer() ? "sliding_attention" : "full_attention");
  }
  (*config)["use_sliding_window"] = windows;
  (*config)["sliding_window"] = windows ? nlohmann::json(model.sliding_window()) : nlohmann::json(nullptr);
  (*config)["max_window_layers"] = windows ? model.first_window_layer() : model.layers();
  (*config)["layer_types"] = types;
}

absl::StatusOr<nlohmann::json> WriteLlama(const ForeignModel& foreign) {
  const bool bias = foreign.model.qkv_bias();
  TREFOIL_RETURN_IF_ERROR(CheckSays(foreign.model, "Llama", {.output_bias = bias, .gated = true}));
  nlohmann::json config = WriteSizes(foreign, "LlamaForCausalLM");
  config["attention_bias"] = bias;
  config["mlp_bias"] = foreign.model.mlp_bias();
  return config;
}

absl::StatusOr<nlohmann::json> WriteMistral(const ForeignModel& foreign) {
  TREFOIL_RETURN_IF_ERROR(
      CheckSays(foreign.model, "Mistral", {.qkv_bias = false, .output_bias = false, .mlp_bias = false, .gated = true}));
  if (foreign.model.first_window_layer() > 0) {
    return absl::UnimplementedError("what Mistral cannot say: model.first_window_layer: must be 0");
  }
  nlohmann::json config = WriteSizes(foreign, "MistralForCausalLM");
  config["sliding_window"] = foreign.model.sliding_window();
  return config;
}

absl::StatusOr<nlohmann::json> WriteQwen2(const ForeignModel& foreign) {
  TREFOIL_RETURN_IF_ERROR(
      CheckSays(foreign.model, "Qwen2", {.qkv_bias = true, .output_bias = false, .mlp_bias = false, .gated = true}));
  nlohmann::json config = WriteSizes(foreign, "Qwen2ForCausalLM");
  WriteWindowOfSomeLayers(foreign.model, &config);
  return config;
}

absl::StatusOr<nlohmann::json> WriteQwen3(const ForeignModel& foreign) {
  const bool bias = foreign.model.qkv_bias();
  TREFOIL_RETURN_IF_ERROR(
      CheckSays(foreign.model, "Qwen3", {.output_bias = bias, .mlp_bias = false, .gated = true, .qk_norm = true}));
  nlohmann::json config = WriteSizes(foreign, "Qwen3ForCausalLM");
  config["attention_bias"] = bias;
  WriteWindowOfSomeLayers(foreign.model, &config);
  return config;
}

using Reader = void (*)(ConfigFields&, bool, ForeignModel*);
using Writer = absl::StatusOr<nlohmann::json> (*)(const ForeignModel&);

const ForeignFamily* NewFamily(const char* model_type, Reader read, Writer write) {
  return new ForeignFamily{.model_type = model_type,
                           .base_prefix = "model.",
                           .rows = kRows,
                           .ignored = kIgnored,
                           .tied_head = "lm_head.weight",
                           .read = read,
                           .write = write};
}

}  // namespace

const ForeignFamily& LlamaFamily() {
  static const ForeignFamily& family = *NewFamily("llama", ReadLlama, WriteLlama);
  return family;
}

const ForeignFamily& MistralFamily() {
  static const ForeignFamily& family = *NewFamily("mistral", ReadMistral, WriteMistral);
  return family;
}

const ForeignFamily& Qwen3Family() {
  static const ForeignFamily& family = *NewFamily("qwen3", ReadQwen3, WriteQwen3);
  return family;
}

const ForeignFamily& Qwen2Family() {
  static const ForeignFamily& family = *NewFamily("qwen2", ReadQwen2, WriteQwen2);
  return family;
}

}  // namespace trefoil
