#include "exchange/families/shared_fields.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace trefoil {
namespace {

// The first name of each is what is written.
constexpr std::pair<const char*, ModelConfig::Activation> kActivations[] = {
    {"gelu_new", ModelConfig::GELU_TANH},  {"gelu_pytorch_tanh", ModelConfig::GELU_TANH},
    {"gelu_fast", ModelConfig::GELU_TANH}, {"gelu", ModelConfig::GELU},
    {"gelu_python", ModelConfig::GELU},    {"relu", ModelConfig::RELU},
    {"silu", ModelConfig::SILU},           {"swish", ModelConfig::SILU}};

std::string NameOfUnnamed(int32_t number) { return absl::StrCat("LABEL_", number); }

}  // namespace

void SetActivation(ConfigFields& fields, const std::string& name, const std::string& word, ModelConfig* model) {
  std::vector<std::string> names;
  for (const auto& [known, activation] : kActivations) {
    if (word == known) return model->set_activation(activation);
    names.push_back(known);
  }
  fields.Wrong(absl::StrCat(name, ": \"", word, "\", which is not implemented; legal: ", absl::StrJoin(names, ", ")));
}

void ReadActivation(ConfigFields& fields, const std::string& name, const std::string& otherwise, ModelConfig* model) {
  SetActivation(fields, name, fields.Word(name, otherwise), model);
}

std::string ActivationName(const ModelConfig& model) {
  const auto* const known = std::find_if(std::begin(kActivations), std::end(kActivations),
                                         [&](const auto& one) { return one.second == model.activation(); });
  CHECK(known != std::end(kActivations)) << "model.activation is not set";
  return known->first;
}

absl::Status CheckSays(const ModelConfig& model, const char* family, const Says& says) {
  std::vector<std::string> problems;
  const auto must_be = [&](const char* name, bool found, std::optional<bool> wanted) {
    if (!wanted.has_value() || found == *wanted) return;
    problems.push_back(absl::StrCat("model.", name, ": must be ", *wanted ? "true" : "false"));
  };
  must_be("qkv_bias", model.qkv_bias(), says.qkv_bias);
  must_be("attention_output_bias", model.attention_output_bias(), says.output_bias);
  must_be("mlp_bias", model.mlp_bias(), says.mlp_bias);
  must_be("gated", model.gated(), says.gated);
  must_be("qk_norm", model.qk_norm(), says.qk_norm);
  if (says.heads_fill_hidden &&
      (model.kv_heads() != model.heads() || model.head_dim() * model.heads() != model.hidden())) {
    problems.push_back("model.kv_heads and model.head_dim: must be heads and hidden / heads");
  }
  if (problems.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("what ", family, " cannot say: ", absl::StrJoin(problems, "; ")));
}

void ReadDropout(ConfigFields& fields, const std::vector<std::string>& names, double otherwise, ModelConfig* model) {
  const double first = fields.Number(names.front(), otherwise);
  for (const std::string& name : names) {
    const double other = fields.Number(name, otherwise);
    if (other == first) continue;
    fields.Wrong(absl::StrCat(name, ": ", other, ", must be as ", names.front(), " ", first,
                              ": one probability of dropping is implemented"));
  }
  model->set_dropout(static_cast<float>(first));
}

namespace {

void ReadScaling(ConfigFields& fields, const std::string& kind, int32_t length, RopeScaling* scaling) {
  scaling->set_factor(static_cast<float>(fields.Number("factor", 1)));
  if (kind == "linear") return scaling->set_kind(RopeScaling::LINEAR);
  scaling->set_original_length(fields.Int("original_max_position_embeddings", length));
  if (kind == "llama3") {
    scaling->set_kind(RopeScaling::LLAMA3);
    scaling->set_low_frequency_factor(static_cast<float>(fields.Number("low_freq_factor", 1)));
    scaling->set_high_frequency_factor(static_cast<float>(fields.Number("high_freq_factor", 4)));
    return;
  }
  scaling->set_kind(RopeScaling::YARN);
  scaling->set_beta_fast(static_cast<float>(fields.Number("beta_fast", 32)));
  scaling->set_beta_slow(static_cast<float>(fields.Number("beta_slow", 1)));
  scaling->set_attention_factor(static_cast<float>(fields.Number("attention_factor", 0)));
  fields.MustBe("truncate", true);
  for (const char* name : {"mscale", "mscale_all_dim"}) {
    if (fields.Number(name, 0) != 0) fields.Wrong(std::string(name) + ": is not implemented; must be left out");
  }
}

}  // namespace

void ReadRotary(ConfigFields& fields, double theta, ModelConfig* model) {
  const double plain = fields.Number("rope_theta", theta);
  ConfigFields* const older = fields.Object("rope_scaling");
  ConfigFields* const newer = fields.Object("rope_parameters");
  if (newer != nullptr && older != nullptr) older->IgnoreRest();
  ConfigFields* const scaling = newer != nullptr ? newer : older;
  model->set_rope_theta(static_cast<float>(plain));
  if (scaling == nullptr) return;
  if (newer != nullptr) model->set_rope_theta(static_cast<float>(newer->Number("rope_theta", plain)));
  const std::string kind = scaling->Word("rope_type", scaling->Word("type", "default"));
  scaling->Ignore("type");
  if (scaling->Number("partial_rotary_factor", 1) != 1) scaling->Wrong("partial_rotary_factor: must be 1");
  if (kind == "default") return;
  if (kind == "linear" || kind == "llama3" || kind == "yarn") {
    return ReadScaling(*scaling, kind, model->sequence_length(), model->mutable_rope_scaling());
  }
  scaling->Wrong("rope_type: \"" + kind + "\", which is not implemented; legal: default, linear, llama3, yarn");
  scaling->IgnoreRest();
}

void WriteRotary(const ModelConfig& model, nlohmann::json* config) {
  const double theta = ShortestDouble(model.rope_theta());
  const RopeScaling& scaling = model.rope_scaling();
  nlohmann::json older = nullptr, newer = {{"rope_type", "default"}};
  if (scaling.kind() != RopeScaling::KIND_UNSET) {
    const bool linear = scaling.kind() == RopeScaling::LINEAR, llama3 = scaling.kind() == RopeScaling::LLAMA3;
    newer = {{"rope_type", linear   ? "linear"
                           : llama3 ? "llama3"
                                    : "yarn"},
             {"factor", ShortestDouble(scaling.factor())}};
    if (!linear) newer["original_max_position_embeddings"] = scaling.original_length();
    if (llama3) {
      newer["low_freq_factor"] = ShortestDouble(scaling.low_frequency_factor());
      newer["high_freq_factor"] = ShortestDouble(scaling.high_frequency_factor());
    } else if (!linear) {
      newer["beta_fast"] = ShortestDouble(scaling.beta_fast());
      newer["beta_slow"] = ShortestDouble(scaling.beta_slow());
      newer["attention_factor"] = ShortestDouble(scaling.attention_factor());
    }
    older = newer;
  }
  newer["rope_theta"] = theta;
  (*config)["rope_theta"] = theta;
  (*config)["rope_scaling"] = older;
  (*config)["rope_parameters"] = newer;
}

void ReadClasses(ConfigFields& fields, ForeignModel* model) {
  model->class_names = fields.NamesByNumber("id2label");
  fields.Ignore("label2id");
  const int32_t named = static_cast<int32_t>(model->class_names.size());
  bool made_up = true;  // by transformers, of classes without names
  for (int32_t i = 0; i < named; ++i) made_up &= model->class_names[static_cast<size_t>(i)] == NameOfUnnamed(i);
  if (made_up) model->class_names.clear();
  const int32_t classes = fields.Int("num_labels", named == 0 ? 2 : named);
  model->model.set_classes(classes);
}

void WriteClasses(const ForeignModel& model, nlohmann::json* config) {
  nlohmann::json names = nlohmann::json::object(), numbers = nlohmann::json::object();
  for (int i = 0; i < std::max(1, model.model.classes()); ++i) {  // a value is one
    const auto known = static_cast<size_t>(i) < model.class_names.size();
    const std::string name = known ? model.class_names[static_cast<size_t>(i)] : NameOfUnnamed(i);
    names[std::to_string(i)] = name;
    numbers[name] = i;
  }
  (*config)["id2label"] = names;
  (*config)["label2id"] = numbers;
}

double ShortestDouble(float value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  double result = 0;
  std::from_chars(digits, end, result);
  return result;
}

}  // namespace trefoil
