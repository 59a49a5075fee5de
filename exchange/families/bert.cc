// BERT (Devlin et al. 2019): masked tokens, classes of texts or tokens, a value, or the encoder alone.
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "exchange/families/family.h"
#include "exchange/families/shared_fields.h"

namespace trefoil {
namespace {

bool SaysTokens(const ModelConfig& model) { return model.head() == ModelConfig::TOKENS; }
bool SaysClasses(const ModelConfig& model) { return !SaysTokens(model); }

const NameRow kRows[] = {
    {"embedding.token.weight", "bert.embeddings.word_embeddings.weight"},
    {"embedding.position.weight", "bert.embeddings.position_embeddings.weight"},
    {"embedding.segment.weight", "bert.embeddings.token_type_embeddings.weight"},
    {"embedding.norm.*", "bert.embeddings.LayerNorm.*"},
    {"blocks.#.attention.q.*", "bert.encoder.layer.#.attention.self.query.*"},
    {"blocks.#.attention.k.*", "bert.encoder.layer.#.attention.self.key.*"},
    {"blocks.#.attention.v.*", "bert.encoder.layer.#.attention.self.value.*"},
    {"blocks.#.attention.output.*", "bert.encoder.layer.#.attention.output.dense.*"},
    {"blocks.#.attention_norm.*", "bert.encoder.layer.#.attention.output.LayerNorm.*"},
    {"blocks.#.mlp.up.*", "bert.encoder.layer.#.intermediate.dense.*"},
    {"blocks.#.mlp.down.*", "bert.encoder.layer.#.output.dense.*"},
    {"blocks.#.mlp_norm.*", "bert.encoder.layer.#.output.LayerNorm.*"},
    {"head.transform.*", "cls.predictions.transform.dense.*"},
    {"head.transform_norm.*", "cls.predictions.transform.LayerNorm.*"},
    {.ours = "head.output.bias", .theirs = "cls.predictions.bias", .when = SaysTokens},
    {.ours = "head.output.weight", .theirs = "cls.predictions.decoder.weight", .when = SaysTokens},
    {"head.pooler.*", "bert.pooler.dense.*"},
    {.ours = "head.output.*", .theirs = "classifier.*", .when = SaysClasses},
};

// Buffers, copies of what is tied, and what only another head has.
constexpr const char* kIgnored[] = {"*position_ids", "cls.predictions.decoder.*", "cls.seq_relationship.*",
                                    "bert.pooler.dense.*"};

struct Head {
  const char* architecture;
  const char* task;
  ModelConfig::Head head;
  bool without_head = false;
};
constexpr Head kHeads[] = {
    {"BertForMaskedLM", "MASKED_TOKEN", ModelConfig::TOKENS},
    {"BertForPreTraining", "MASKED_TOKEN", ModelConfig::TOKENS},
    {"BertForSequenceClassification", "TEXT_CLASSES", ModelConfig::CLASSES},
    {"BertForSequenceClassification", "TEXT_VALUE", ModelConfig::VALUE},
    {"BertForTokenClassification", "TOKEN_CLASSES", ModelConfig::CLASSES},
    {"BertModel", "TEXT_VALUE", ModelConfig::VALUE, /*without_head=*/true},
};

void Read(ConfigFields& fields, bool, ForeignModel* foreign) {
  ModelConfig& model = foreign->model;
  model.set_family(ModelConfig::BERT);
  const std::vector<std::string> architectures = fields.Words("architectures");
  const Head* head = &kHeads[0];
  if (!architectures.empty()) {
    head = std::find_if(std::begin(kHeads), std::end(kHeads),
                        [&](const Head& one) { return architectures.front() == one.architecture; });
    if (head == std::end(kHeads)) {
      fields.Wrong("architectures: " + architectures.front() +
                   ", of which the head is not implemented; legal: BertForMaskedLM, BertForPreTraining, "
                   "BertForSequenceClassification, BertForTokenClassification, BertModel");
      head = &kHeads[0];
    }
  }
  ReadClasses(fields, foreign);
  if (head->head == ModelConfig::CLASSES && model.classes() == 1) ++head;  // a value
  foreign->task = head->task;
  foreign->without_head = head->without_head;
  model.set_head(head->head);
  if (head->head != ModelConfig::CLASSES) {
    model.clear_classes();
    foreign->class_names.clear();
  }
  model.set_hidden(fields.Int("hidden_size", 768));
  model.set_layers(fields.Int("num_hidden_layers", 12));
  model.set_heads(fields.Int("num_attention_heads", 12));
  model.set_feed_forward(fields.Int("intermediate_size", 3072));
  model.set_vocabulary(fields.Int("vocab_size", 30522));
  model.set_sequence_length(fields.Int("max_position_embeddings", 512));
  model.set_norm_epsilon(static_cast<float>(fields.Number("layer_norm_eps", 1e-12)));
  model.set_tied(fields.Bool("tie_word_embeddings", true));
  ReadActivation(fields, "hidden_act", "gelu", &model);
  ReadDropout(fields, {"hidden_dropout_prob", "attention_probs_dropout_prob"}, 0.1, &model);
  if (fields.Has("classifier_dropout") &&
      fields.Number("classifier_dropout", 0) != fields.Number("hidden_dropout_prob", 0.1)) {
    fields.Wrong("classifier_dropout: must be as hidden_dropout_prob: one probability of dropping is implemented");
  }
  fields.Ignore("classifier_dropout");
  if (const int32_t segments = fields.Int("type_vocab_size", 2); segments != 2) {
    fields.Wrong(absl::StrCat("type_vocab_size: ", segments, ", must be 2"));
  }
  fields.MustBe("position_embedding_type", "absolute");
  fields.MustBe("is_decoder", false);
  fields.MustBe("add_cross_attention", false);
  for (const char* name : {"directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
                           "pooler_size_per_head", "pooler_type"}) {
    fields.Ignore(name);
  }
}

absl::StatusOr<nlohmann::json> Write(const ForeignModel& foreign) {
  const ModelConfig& model = foreign.model;
  TREFOIL_RETURN_IF_ERROR(
      CheckSays(model, "BERT",
                {.qkv_bias = true, .output_bias = true, .mlp_bias = true, .gated = false, .heads_fill_hidden = true}));
  const auto head = std::find_if(std::begin(kHeads), std::end(kHeads), [&](const Head& one) {
    const bool of_tokens = std::string(one.task) == "TOKEN_CLASSES";
    return one.head == model.head() && (one.head != ModelConfig::CLASSES || of_tokens == (model.targets() != 1));
  });
  nlohmann::json config = {{"architectures", {head->architecture}},
                           {"hidden_size", model.hidden()},
                           {"num_hidden_layers", model.layers()},
                           {"num_attention_heads", model.heads()},
                           {"intermediate_size", model.feed_forward()},
                           {"vocab_size", model.vocabulary()},
                           {"max_position_embeddings", model.sequence_length()},
                           {"layer_norm_eps", ShortestDouble(model.norm_epsilon())},
                           {"tie_word_embeddings", model.tied()},
                           {"hidden_act", ActivationName(model)},
                           {"type_vocab_size", 2},
                           {"position_embedding_type", "absolute"},
                           {"hidden_dropout_prob", ShortestDouble(model.dropout())},
                           {"attention_probs_dropout_prob", ShortestDouble(model.dropout())}};
  if (model.head() != ModelConfig::TOKENS) WriteClasses(foreign, &config);
  return config;
}

}  // namespace

const ForeignFamily& BertFamily() {
  static const ForeignFamily& family = *new ForeignFamily{.model_type = "bert",
                                                          .base_prefix = "bert.",
                                                          .rows = kRows,
                                                          .ignored = kIgnored,
                                                          .tied_head = "cls.predictions.decoder.weight",
                                                          .read = Read,
                                                          .write = Write};
  return family;
}

}  // namespace trefoil
