// GPT-2 (Radford et al. 2019), whose linear layers hold their matrices [inputs, outputs].
#include <nlohmann/json.hpp>

#include "exchange/families/family.h"
#include "exchange/families/shared_fields.h"

namespace trefoil {
namespace {

const NameRow kRows[] = {
    {"embedding.token.weight", "transformer.wte.weight"},
    {"embedding.position.weight", "transformer.wpe.weight"},
    {"blocks.#.attention_norm.*", "transformer.h.#.ln_1.*"},
    {"blocks.#.attention.{q,k,v}.*", "transformer.h.#.attn.c_attn.*", Arrangement::kTransposed},
    {"blocks.#.attention.output.*", "transformer.h.#.attn.c_proj.*", Arrangement::kTransposed},
    {"blocks.#.mlp_norm.*", "transformer.h.#.ln_2.*"},
    {"blocks.#.mlp.up.*", "transformer.h.#.mlp.c_fc.*", Arrangement::kTransposed},
    {"blocks.#.mlp.down.*", "transformer.h.#.mlp.c_proj.*", Arrangement::kTransposed},
    {"head.norm.*", "transformer.ln_f.*"},
    {"head.output.weight", "lm_head.weight"},
};

// Masks.
constexpr const char* kIgnored[] = {"transformer.h.#.attn.bias", "transformer.h.#.attn.masked_bias"};

void Read(ConfigFields& fields, bool, ForeignModel* foreign) {
  foreign->task = "NEXT_TOKEN";
  ModelConfig& model = foreign->model;
  model.set_family(ModelConfig::GPT);
  model.set_hidden(fields.Int("n_embd", 768));
  model.set_layers(fields.Int("n_layer", 12));
  model.set_heads(fields.Int("n_head", 12));
  model.set_feed_forward(fields.Int("n_inner", 0));
  model.set_vocabulary(fields.Int("vocab_size", 50257));
  model.set_sequence_length(fields.Int("n_positions", 1024));
  model.set_norm_epsilon(static_cast<float>(fields.Number("layer_norm_epsilon", 1e-5)));
  model.set_tied(fields.Bool("tie_word_embeddings", true));
  ReadActivation(fields, "activation_function", "gelu_new", &model);
  ReadDropout(fields, {"resid_pdrop", "embd_pdrop", "attn_pdrop"}, 0.1, &model);
  fields.MustBe("scale_attn_weights", true);
  fields.MustBe("scale_attn_by_inverse_layer_idx", false);
  fields.MustBe("add_cross_attention", false);
  // How sums are rounded; and the length again.
  for (const char* name : {"reorder_and_upcast_attn", "n_ctx"}) fields.Ignore(name);
  for (const char* name :
       {"summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj"}) {
    fields.Ignore(name);  // of another head
  }
}

absl::StatusOr<nlohmann::json> Write(const ForeignModel& foreign) {
  const ModelConfig& model = foreign.model;
  TREFOIL_RETURN_IF_ERROR(
      CheckSays(model, "GPT-2",
                {.qkv_bias = true, .output_bias = true, .mlp_bias = true, .gated = false, .heads_fill_hidden = true}));
  return nlohmann::json{{"architectures", {"GPT2LMHeadModel"}},
                        {"n_embd", model.hidden()},
                        {"n_layer", model.layers()},
                        {"n_head", model.heads()},
                        {"n_inner", model.feed_forward()},
                        {"vocab_size", model.vocabulary()},
                        {"n_positions", model.sequence_length()},
                        {"n_ctx", model.sequence_length()},
                        {"layer_norm_epsilon", ShortestDouble(model.norm_epsilon())},
                        {"tie_word_embeddings", model.tied()},
                        {"activation_function", ActivationName(model)},
                        {"resid_pdrop", ShortestDouble(model.dropout())},
                        {"embd_pdrop", ShortestDouble(model.dropout())},
                        {"attn_pdrop", ShortestDouble(model.dropout())}};
}

}  // namespace

const ForeignFamily& Gpt2Family() {
  static const ForeignFamily& family = *new ForeignFamily{.model_type = "gpt2",
                                                          .base_prefix = "transformer.",
                                                          .rows = kRows,
                                                          .ignored = kIgnored,
                                                          .tied_head = "lm_head.weight",
                                                          .read = Read,
                                                          .write = Write};
  return family;
}

}  // namespace trefoil
