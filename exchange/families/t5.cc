// T5 1.0 (Raffel et al. 2020) and 1.1 (Shazeer 2020).
#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>

#include "exchange/families/family.h"
#include "exchange/families/shared_fields.h"
#include "model/relative_positions.h"

namespace trefoil {
namespace {

bool IsGated(const ModelConfig& model) { return model.gated(); }
bool IsPlain(const ModelConfig& model) { return !model.gated(); }

const NameRow kRows[] = {
    {"embedding.token.weight", "shared.weight"},
    {"encoder.relative.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
    {"blocks.#.attention_norm.weight", "encoder.block.#.layer.0.layer_norm.weight"},
    {"blocks.#.attention.q.weight", "encoder.block.#.layer.0.SelfAttention.q.weight"},
    {"blocks.#.attention.k.weight", "encoder.block.#.layer.0.SelfAttention.k.weight"},
    {"blocks.#.attention.v.weight", "encoder.block.#.layer.0.SelfAttention.v.weight"},
    {"blocks.#.attention.output.weight", "encoder.block.#.layer.0.SelfAttention.o.weight"},
    {"blocks.#.mlp_norm.weight", "encoder.block.#.layer.1.layer_norm.weight"},
    {"blocks.#.mlp.gate.weight", "encoder.block.#.layer.1.DenseReluDense.wi_0.weight"},
    {.ours = "blocks.#.mlp.up.weight", .theirs = "encoder.block.#.layer.1.DenseReluDense.wi_1.weight", .when = IsGated},
    {.ours = "blocks.#.mlp.up.weight", .theirs = "encoder.block.#.layer.1.DenseReluDense.wi.weight", .when = IsPlain},
    {"blocks.#.mlp.down.weight", "encoder.block.#.layer.1.DenseReluDense.wo.weight"},
    {"encoder.norm.weight", "encoder.final_layer_norm.weight"},
    {"decoder.relative.weight", "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
    {"decoder.blocks.#.attention_norm.weight", "decoder.block.#.layer.0.layer_norm.weight"},
    {"decoder.blocks.#.attention.q.weight", "decoder.block.#.layer.0.SelfAttention.q.weight"},
    {"decoder.blocks.#.attention.k.weight", "decoder.block.#.layer.0.SelfAttention.k.weight"},
    {"decoder.blocks.#.attention.v.weight", "decoder.block.#.layer.0.SelfAttention.v.weight"},
    {"decoder.blocks.#.attention.output.weight", "decoder.block.#.layer.0.SelfAttention.o.weight"},
    {"decoder.blocks.#.cross_norm.weight", "decoder.block.#.layer.1.layer_norm.weight"},
    {"decoder.blocks.#.cross.q.weight", "decoder.block.#.layer.1.EncDecAttention.q.weight"},
    {"decoder.blocks.#.cross.k.weight", "decoder.block.#.layer.1.EncDecAttention.k.weight"},
    {"decoder.blocks.#.cross.v.weight", "decoder.block.#.layer.1.EncDecAttention.v.weight"},
    {"decoder.blocks.#.cross.output.weight", "decoder.block.#.layer.1.EncDecAttention.o.weight"},
    {"decoder.blocks.#.mlp_norm.weight", "decoder.block.#.layer.2.layer_norm.weight"},
    {"decoder.blocks.#.mlp.gate.weight", "decoder.block.#.layer.2.DenseReluDense.wi_0.weight"},
    {.ours = "decoder.blocks.#.mlp.up.weight",
     .theirs = "decoder.block.#.layer.2.DenseReluDense.wi_1.weight",
     .when = IsGated},
    {.ours = "decoder.blocks.#.mlp.up.weight",
     .theirs = "decoder.block.#.layer.2.DenseReluDense.wi.weight",
     .when = IsPlain},
    {"decoder.blocks.#.mlp.down.weight", "decoder.block.#.layer.2.DenseReluDense.wo.weight"},
    {"head.norm.weight", "decoder.final_layer_norm.weight"},
    {"head.output.weight", "lm_head.weight"},
};

// Copies of the shared table, and a table that nothing looks at.
constexpr const char* kIgnored[] = {"*.embed_tokens.weight",
                                    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"};

constexpr int32_t kDistance = 128;

void Read(ConfigFields& fields, bool own_head, ForeignModel* foreign) {
  ModelConfig& model = foreign->model;
  foreign->task = "SPAN_CORRUPTION";
  model.set_family(ModelConfig::T5);
  model.set_hidden(fields.Int("d_model", 512));
  model.set_layers(fields.Int("num_layers", 6));
  model.set_decoder_layers(fields.Int("num_decoder_layers", model.layers()));
  model.set_heads(fields.Int("num_heads", 8));
  model.set_head_dim(fields.Int("d_kv", 64));
  model.set_feed_forward(fields.Int("d_ff", 2048));
  model.set_vocabulary(fields.Int("vocab_size", 32128));
  model.set_sequence_length(fields.Int("n_positions", 512));
  model.set_norm_epsilon(static_cast<float>(fields.Number("layer_norm_epsilon", 1e-6)));
  model.set_dropout(static_cast<float>(fields.Number("dropout_rate", 0.1)));
  // Files of transformers 5 say tie_word_embeddings true whatever is so, and keep the other field.
  const bool says_tied = fields.Bool("tie_word_embeddings", true);
  const bool scaled = fields.Bool("scale_decoder_outputs", says_tied);
  model.set_tied(!own_head);
  if (scaled == own_head) {
    fields.Wrong(absl::StrCat("tie_word_embeddings or scale_decoder_outputs: what goes into the head is ",
                              scaled ? "" : "not ", "scaled, and there is ", own_head ? "a" : "no",
                              " lm_head.weight; of the two T5 has one"));
  }
  const std::string mlp = fields.Word("feed_forward_proj", "relu");
  const bool gated = mlp.starts_with("gated-");
  model.set_gated(gated);
  const std::string function = gated ? mlp.substr(6) : mlp;
  SetActivation(fields, "feed_forward_proj", mlp == "gated-gelu" ? "gelu_new" : function, &model);
  for (const char* name : {"dense_act_fn", "is_gated_act"}) fields.Ignore(name);  // said by feed_forward_proj
  if (fields.Int("relative_attention_num_buckets", 32) != kRelativeBuckets) {
    fields.Wrong(absl::StrCat("relative_attention_num_buckets: must be ", kRelativeBuckets));
  }
  if (fields.Int("relative_attention_max_distance", kDistance) != kDistance) {
    fields.Wrong(absl::StrCat("relative_attention_max_distance: must be ", kDistance));
  }
  fields.MustBe("is_encoder_decoder", true);
  for (const char* name : {"initializer_factor", "classifier_dropout"}) fields.Ignore(name);
}

absl::StatusOr<nlohmann::json> Write(const ForeignModel& foreign) {
  const ModelConfig& model = foreign.model;
  TREFOIL_RETURN_IF_ERROR(CheckSays(model, "T5", {.qkv_bias = false, .output_bias = false, .mlp_bias = false}));
  if (model.kv_heads() != model.heads()) return absl::UnimplementedError("model.kv_heads: must be heads in T5");
  const bool exact = model.activation() == ModelConfig::GELU;
  if (model.gated() && exact)
    return absl::UnimplementedError("model.activation: GELU, gated, which T5 has no word for");
  const std::string function =
      model.gated() && model.activation() == ModelConfig::GELU_TANH ? "gelu" : ActivationName(model);
  return nlohmann::json{{"architectures", {"T5ForConditionalGeneration"}},
                        {"d_model", model.hidden()},
                        {"num_layers", model.layers()},
                        {"num_decoder_layers", model.decoder_layers()},
                        {"num_heads", model.heads()},
                        {"d_kv", model.head_dim()},
                        {"d_ff", model.feed_forward()},
                        {"vocab_size", model.vocabulary()},
                        {"n_positions", model.sequence_length()},
                        {"layer_norm_epsilon", ShortestDouble(model.norm_epsilon())},
                        {"dropout_rate", ShortestDouble(model.dropout())},
                        {"feed_forward_proj", (model.gated() ? "gated-" : "") + function},
                        {"relative_attention_num_buckets", kRelativeBuckets},
                        {"relative_attention_max_distance", kDistance},
                        {"tie_word_embeddings", model.tied()},
                        {"scale_decoder_outputs", model.tied()},
                        {"is_encoder_decoder", true}};
}

}  // namespace

const ForeignFamily& T5Family() {
  static const ForeignFamily& family = *new ForeignFamily{.model_type = "t5",
                                                          .base_prefix = "",
                                                          .rows = kRows,
                                                          .ignored = kIgnored,
                                                          .tied_head = "lm_head.weight",
                                                          .read = Read,
                                                          .write = Write};
  return family;
}

}  // namespace trefoil
