// ViT (Dosovitskiy et al. 2021), of classes.
#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>

#include "exchange/families/family.h"
#include "exchange/families/shared_fields.h"
#include "model/patches.h"

namespace trefoil {
namespace {

using Dims = std::vector<int64_t>;

const NameRow kRows[] = {
    {.ours = "embedding.class_token",
     .theirs = "vit.embeddings.cls_token",
     .shape =
         [](const ModelConfig& model) {
           return Dims{1, 1, model.hidden()};
         }},
    {.ours = "embedding.position.weight",
     .theirs = "vit.embeddings.position_embeddings",
     .shape =
         [](const ModelConfig& model) {
           return Dims{1, ImagePlaces(model), model.hidden()};
         }},
    {.ours = "embedding.patch.weight",
     .theirs = "vit.embeddings.patch_embeddings.projection.weight",
     .shape =
         [](const ModelConfig& m) {
           return Dims{m.hidden(), m.channels(), m.patch_size(), m.patch_size()};
         }},
    {.ours = "embedding.patch.bias",
     .theirs = "vit.embeddings.patch_embeddings.projection.bias",
     .shape = [](const ModelConfig& model) { return Dims{model.hidden()}; }},
    {"blocks.#.attention_norm.*", "vit.encoder.layer.#.layernorm_before.*"},
    {"blocks.#.attention.q.*", "vit.encoder.layer.#.attention.attention.query.*"},
    {"blocks.#.attention.k.*", "vit.encoder.layer.#.attention.attention.key.*"},
    {"blocks.#.attention.v.*", "vit.encoder.layer.#.attention.attention.value.*"},
    {"blocks.#.attention.output.*", "vit.encoder.layer.#.attention.output.dense.*"},
    {"blocks.#.mlp_norm.*", "vit.encoder.layer.#.layernorm_after.*"},
    {"blocks.#.mlp.up.*", "vit.encoder.layer.#.intermediate.dense.*"},
    {"blocks.#.mlp.down.*", "vit.encoder.layer.#.output.dense.*"},
    {"head.norm.*", "vit.layernorm.*"},
    {"head.output.*", "classifier.*"},
};

// What only another head has.
constexpr const char* kIgnored[] = {"vit.pooler.dense.*"};

void Read(ConfigFields& fields, bool, ForeignModel* foreign) {
  ModelConfig& model = foreign->model;
  foreign->task = "IMAGE_CLASSES";
  model.set_family(ModelConfig::VIT);
  model.set_head(ModelConfig::CLASSES);
  const std::vector<std::string> architectures = fields.Words("architectures");
  const std::string architecture = architectures.empty() ? "ViTForImageClassification" : architectures.front();
  foreign->without_head = architecture == "ViTModel";
  if (architecture != "ViTForImageClassification" && architecture != "ViTModel") {
    fields.Wrong("architectures: " + architecture +
                 ", of which the head is not implemented; legal: ViTForImageClassification, ViTModel");
  }
  ReadClasses(fields, foreign);
  model.set_hidden(fields.Int("hidden_size", 768));
  model.set_layers(fields.Int("num_hidden_layers", 12));
  model.set_heads(fields.Int("num_attention_heads", 12));
  model.set_feed_forward(fields.Int("intermediate_size", 3072));
  model.set_image_size(fields.Int("image_size", 224));
  model.set_patch_size(fields.Int("patch_size", 16));
  model.set_channels(fields.Int("num_channels", 3));
  model.set_norm_epsilon(static_cast<float>(fields.Number("layer_norm_eps", 1e-12)));
  model.set_qkv_bias(fields.Bool("qkv_bias", true));
  ReadActivation(fields, "hidden_act", "gelu", &model);
  ReadDropout(fields, {"hidden_dropout_prob", "attention_probs_dropout_prob"}, 0.0, &model);
  for (const char* name : {"encoder_stride", "pooler_output_size", "pooler_act"})
    fields.Ignore(name);  // of other heads
}

absl::StatusOr<nlohmann::json> Write(const ForeignModel& foreign) {
  const ModelConfig& model = foreign.model;
  TREFOIL_RETURN_IF_ERROR(
      CheckSays(model, "ViT", {.output_bias = true, .mlp_bias = true, .gated = false, .heads_fill_hidden = true}));
  if (model.head() != ModelConfig::CLASSES || model.pooling() != ModelConfig::FIRST) {
    return absl::UnimplementedError("model.head and model.pooling: must be CLASSES of the FIRST in ViT");
  }
  nlohmann::json config = {{"architectures", {"ViTForImageClassification"}},
                           {"hidden_size", model.hidden()},
                           {"num_hidden_layers", model.layers()},
                           {"num_attention_heads", model.heads()},
                           {"intermediate_size", model.feed_forward()},
                           {"image_size", model.image_size()},
                           {"patch_size", model.patch_size()},
                           {"num_channels", model.channels()},
                           {"layer_norm_eps", ShortestDouble(model.norm_epsilon())},
                           {"qkv_bias", model.qkv_bias()},
                           {"hidden_act", ActivationName(model)},
                           {"hidden_dropout_prob", ShortestDouble(model.dropout())},
                           {"attention_probs_dropout_prob", ShortestDouble(model.dropout())}};
  WriteClasses(foreign, &config);
  return config;
}

}  // namespace

const ForeignFamily& VitFamily() {
  static const ForeignFamily& family = *new ForeignFamily{.model_type = "vit",
                                                          .base_prefix = "vit.",
                                                          .rows = kRows,
                                                          .ignored = kIgnored,
                                                          .tied_head = nullptr,
                                                          .read = Read,
                                                          .write = Write};
  return family;
}

}  // namespace trefoil
