#include "exchange/families/shared_fields.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/families/recipe.h"

namespace trefoil {
namespace {

// The first name of each is what is written.
constexpr std::pair<const char*, Activation> kActivations[] = {
    {"gelu_new", Activation::kGelu},       {"gelu_pytorch_tanh", Activation::kGelu},
    {"gelu_fast", Activation::kGelu},      {"gelu", Activation::kGeluErf},
    {"gelu_python", Activation::kGeluErf}, {"relu", Activation::kRelu},
    {"silu", Activation::kSilu},           {"swish", Activation::kSilu}};

}  // namespace

void ReadActivation(ConfigFields& fields, const std::string& name, const std::string& otherwise, ModelConfig* model) {
  const std::string word = fields.Word(name, otherwise);
  for (const auto& [known, activation] : kActivations) {
    if (word != known) continue;
    if (activation != RecipeOf(*model).activation) {
      fields.Wrong(
          absl::StrCat(name, ": \"", word, "\", which ", ModelConfig::Family_Name(model->family()), " does not have"));
    }
    return;
  }
  std::vector<std::string> names;
  for (const auto& [known, activation] : kActivations) names.push_back(known);
  fields.Wrong(absl::StrCat(name, ": \"", word, "\", which is not implemented; legal: ", absl::StrJoin(names, ", ")));
}

absl::StatusOr<std::string> ActivationName(const ModelConfig& model) {
  for (const auto& [name, activation] : kActivations) {
    if (activation == RecipeOf(model).activation) return name;
  }
  return absl::UnimplementedError("the activation function has no name there");
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
  if (kind == "default") return;
  scaling->Wrong("rope_scaling.rope_type: \"" + kind + "\", which is not implemented; must be \"default\"");
  scaling->IgnoreRest();
}

absl::Status WriteRotary(const ModelConfig& model, nlohmann::json* config) {
  const double theta = ShortestDouble(model.rope_theta());
  (*config)["rope_theta"] = theta;
  (*config)["rope_scaling"] = nullptr;
  (*config)["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", theta}};
  return absl::OkStatus();
}

void ReadClasses(ConfigFields& fields, ForeignModel* model) {
  model->class_names = fields.NamesByNumber("id2label");
  fields.Ignore("label2id");
  const int32_t classes =
      fields.Int("num_labels", model->class_names.empty() ? 2 : static_cast<int32_t>(model->class_names.size()));
  model->model.set_classes(classes);
}

void WriteClasses(const ForeignModel& model, nlohmann::json* config) {
  nlohmann::json names = nlohmann::json::object(), numbers = nlohmann::json::object();
  for (int i = 0; i < model.model.classes(); ++i) {
    const auto known = static_cast<size_t>(i) < model.class_names.size();
    const std::string name = known ? model.class_names[static_cast<size_t>(i)] : absl::StrCat("LABEL_", i);
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
