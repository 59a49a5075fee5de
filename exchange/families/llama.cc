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

// No layer has a window.
void ReadWholeAttention(ConfigFields& fields) {
  fields.MustBe("use_sliding_window", false);
  for (const char* name : {"sliding_window", "max_window_layers", "layer_types"}) fields.Ignore(name);
}

void ReadQwen2(ConfigFields& fields, bool, ForeignModel* foreign) {
  ReadSizes(fields, {.length = 32768, .vocabulary = 151936}, foreign);
  foreign->model.set_qkv_bias(true);
  ReadWholeAttention(fields);
}

void ReadQwen3(ConfigFields& fields, bool, ForeignModel* foreign) {
  ReadSizes(fields, {.head_dim = 128, .length = 32768, .vocabulary = 151936}, foreign);
  foreign->model.set_qk_norm(true);
  ReadAttentionBias(fields, &foreign->model);
  ReadWholeAttention(fields);
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

absl::StatusOr<nlohmann::json> WriteLlama(const ForeignModel& foreign) {
  const bool bias = foreign.model.qkv_bias();
  TREFOIL_RETURN_IF_ERROR(CheckSays(foreign.model, "Llama", {.output_bias = bias, .gated = true}));
  nlohmann::json config = WriteSizes(foreign, "LlamaForCausalLM");
  config["attention_bias"] = bias;
  config["mlp_bias"] = foreign.model.mlp_bias();
  return config;
}

absl::StatusOr<nlohmann::json> WriteQwen2(const ForeignModel& foreign) {
  TREFOIL_RETURN_IF_ERROR(
      CheckSays(foreign.model, "Qwen2", {.qkv_bias = true, .output_bias = false, .mlp_bias = false, .gated = true}));
  nlohmann::json config = WriteSizes(foreign, "Qwen2ForCausalLM");
  config["use_sliding_window"] = false;
  return config;
}

absl::StatusOr<nlohmann::json> WriteQwen3(const ForeignModel& foreign) {
  const bool bias = foreign.model.qkv_bias();
  TREFOIL_RETURN_IF_ERROR(
      CheckSays(foreign.model, "Qwen3", {.output_bias = bias, .mlp_bias = false, .gated = true, .qk_norm = true}));
  nlohmann::json config = WriteSizes(foreign, "Qwen3ForCausalLM");
  config["attention_bias"] = bias;
  config["use_sliding_window"] = false;
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

const ForeignFamily& Qwen3Family() {
  static const ForeignFamily& family = *NewFamily("qwen3", ReadQwen3, WriteQwen3);
  return family;
}

const ForeignFamily& Qwen2Family() {
  static const ForeignFamily& family = *NewFamily("qwen2", ReadQwen2, WriteQwen2);
  return family;
}

}  // namespace trefoil
