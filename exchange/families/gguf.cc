// What llama.cpp's files say of networks of Llama's kind: names of their own, and of "llama" queries and keys whose
// rotary pairs lie side by side.
#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>

#include "exchange/families/family.h"

namespace trefoil {
namespace {

template <Arrangement kTurned>
constexpr NameRow kRows[] = {
    {"embedding.token.weight", "token_embd.weight"},
    {"blocks.#.attention_norm.weight", "blk.#.attn_norm.weight"},
    {"blocks.#.attention.q.*", "blk.#.attn_q.*", kTurned},
    {"blocks.#.attention.k.*", "blk.#.attn_k.*", kTurned},
    {"blocks.#.attention.v.*", "blk.#.attn_v.*"},
    {"blocks.#.attention.q_norm.weight", "blk.#.attn_q_norm.weight"},
    {"blocks.#.attention.k_norm.weight", "blk.#.attn_k_norm.weight"},
    {"blocks.#.attention.output.*", "blk.#.attn_output.*"},
    {"blocks.#.mlp_norm.weight", "blk.#.ffn_norm.weight"},
    {"blocks.#.mlp.gate.weight", "blk.#.ffn_gate.weight"},
    {"blocks.#.mlp.up.weight", "blk.#.ffn_up.weight"},
    {"blocks.#.mlp.down.weight", "blk.#.ffn_down.weight"},
    {"head.norm.weight", "output_norm.weight"},
    {"head.output.weight", "output.weight"},
};

void Read(ConfigFields& fields, bool own_head, const std::string& prefix, ForeignModel* foreign) {
  foreign->task = "NEXT_TOKEN";
  ModelConfig& model = foreign->model;
  model.set_family(ModelConfig::LLAMA);
  model.set_layers(fields.Int(prefix + "block_count"));
  model.set_hidden(fields.Int(prefix + "embedding_length"));
  model.set_feed_forward(fields.Int(prefix + "feed_forward_length"));
  model.set_heads(fields.Int(prefix + "attention.head_count"));
  model.set_kv_heads(fields.Int(prefix + "attention.head_count_kv", 0));
  model.set_head_dim(fields.Int(prefix + "attention.key_length", 0));
  model.set_sequence_length(fields.Int(prefix + "context_length"));
  model.set_vocabulary(fields.Int(prefix + "vocab_size"));
  model.set_norm_epsilon(static_cast<float>(fields.Number(prefix + "attention.layer_norm_rms_epsilon", 1e-6)));
  model.set_rope_theta(static_cast<float>(fields.Number(prefix + "rope.freq_base", 10000)));
  model.set_tied(!own_head);
  const int32_t width = model.heads() > 0 && model.head_dim() == 0 ? model.hidden() / model.heads() : model.head_dim();
  for (const char* name : {"rope.dimension_count", "attention.value_length", "attention.key_length"}) {
    if (const int32_t found = fields.Int(prefix + name, width); found != width) {
      fields.Wrong(absl::StrCat(prefix, name, ": ", found, ", must be the width of a head, ", width));
    }
  }
  fields.MustBe(prefix + "rope.scaling.type", "none");
}

void ReadLlama(ConfigFields& fields, bool own_head, ForeignModel* foreign) {
  Read(fields, own_head, "llama.", foreign);
}

void ReadQwen2(ConfigFields& fields, bool own_head, ForeignModel* foreign) {
  Read(fields, own_head, "qwen2.", foreign);
  foreign->model.set_qkv_bias(true);
}

void ReadQwen3(ConfigFields& fields, bool own_head, ForeignModel* foreign) {
  Read(fields, own_head, "qwen3.", foreign);
  foreign->model.set_qk_norm(true);
}

const ForeignFamily* NewFamily(const char* type, std::span<const NameRow> rows,
                               void (*read)(ConfigFields&, bool, ForeignModel*)) {
  return new ForeignFamily{
      .model_type = type, .base_prefix = "", .rows = rows, .tied_head = "output.weight", .read = read};
}

}  // namespace

const ForeignFamily* FindGgufFamily(const std::string& architecture) {
  static const ForeignFamily* const families[] = {NewFamily("llama", kRows<Arrangement::kPairsTogether>, ReadLlama),
                                                  NewFamily("qwen2", kRows<Arrangement::kSame>, ReadQwen2),
                                                  NewFamily("qwen3", kRows<Arrangement::kSame>, ReadQwen3)};
  for (const ForeignFamily* family : families) {
    if (architecture == family->model_type) return family;
  }
  return nullptr;
}

}  // namespace trefoil
