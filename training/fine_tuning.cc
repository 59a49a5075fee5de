#include "training/fine_tuning.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "model/layers/low_rank.h"
#include "model/module.h"

namespace trefoil {
namespace {

constexpr char kPrefix[] = "training.fine_tuning.";

// Whether `part` is the name or the beginning of it up to a dot.
bool Names(const std::string& part, const std::string& name) {
  return absl::StartsWith(name, part) && (name.size() == part.size() || name[part.size()] == '.');
}

// Of each module: its rate by layer decay and frozen layers alone.
std::vector<double> RatesOfModules(const RunConfig& config) {
  const FineTuningConfig& tuning = config.training().fine_tuning();
  // A config that an older program has filled has none.
  const double decay = tuning.has_layer_decay() ? tuning.layer_decay() : 1;
  const std::vector<ModuleSpec> modules = ModulesOf(config.model());
  std::vector<double> rates(modules.size());
  int behind = 0;  // blocks
  for (size_t i = modules.size(); i-- > 0;) {
    const bool last = behind == 0 && !modules[i].block;
    rates[i] = last ? 1 : std::pow(decay, behind + 1);
    if (modules[i].block) ++behind;
  }
  int frozen = 0;
  for (size_t i = 0; i < modules.size() && frozen < tuning.frozen_layers(); ++i) {
    rates[i] = 0;
    if (modules[i].block) ++frozen;
  }
  return rates;
}

// Beside low-rank adapters only a head of samples is trained, which is new.
bool IsTrainedWithAdapters(const ModelConfig& model, const std::string& name) {
  const bool of_samples = model.head() == ModelConfig::CLASSES || model.head() == ModelConfig::VALUE;
  return IsAdapter(name) || (of_samples && Names("head", name));
}

// Of each parameter of the model.
std::vector<double> RatesOf(const RunConfig& config, const ParameterTable& table) {
  const std::vector<double> of_modules = RatesOfModules(config);
  std::vector<double> rates;
  for (const Parameter& parameter : table.all()) {
    const auto& freeze = config.training().fine_tuning().freeze();
    const bool frozen = std::any_of(freeze.begin(), freeze.end(),
                                    [&](const std::string& part) { return Names(part, parameter.name); }) ||
                        (config.model().lora().rank() > 0 && !IsTrainedWithAdapters(config.model(), parameter.name));
    rates.push_back(frozen ? 0 : of_modules[static_cast<size_t>(parameter.module)]);
  }
  return rates;
}

// The first parts of the parameters' names: "embedding, blocks, head".
std::string Beginnings(const ParameterTable& table) {
  std::vector<std::string> parts;
  for (const Parameter& parameter : table.all()) {
    const std::string part = parameter.name.substr(0, parameter.name.find('.'));
    if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.push_back(part);
  }
  return absl::StrJoin(parts, ", ");
}

void CheckFreeze(const RunConfig& config, const ParameterTable& table, Rules& rules) {
  for (const std::string& part : config.training().fine_tuning().freeze()) {
    if (std::any_of(table.all().begin(), table.all().end(), [&](const Parameter& p) { return Names(part, p.name); })) {
      continue;
    }
    rules.Broken(kPrefix, "freeze: ", part,
                 ", which no parameter's name begins with; nearest legal: ", Beginnings(table));
  }
}

}  // namespace

ParameterTable DeclareRun(const RunConfig& config) {
  const ParameterTable model = DeclareModel(config.model());
  const std::vector<double> rates = RatesOf(config, model);
  ParameterTable table;
  for (size_t i = 0; i < rates.size(); ++i) {
    Parameter parameter = model.all()[i];
    parameter.rate = rates[i];
    table.Add(std::move(parameter));
  }
  return table;
}

double TrainingFlops(const RunConfig& config) {
  const ParameterTable table = DeclareRun(config);
  if (table.trained_elements() == table.elements()) return ModelFlops(config.model());
  const int first = table.first_trained_module();
  const std::vector<ModuleSpec> modules = ModulesOf(config.model());
  double flops = 0;
  for (int number = 0; number < static_cast<int>(modules.size()); ++number) {
    double elements = 0, trained = 0;
    for (const Parameter& parameter : table.all()) {
      const bool used = parameter.module == number ||
                        std::count(parameter.tied_modules.begin(), parameter.tied_modules.end(), number) > 0;
      if (!used) continue;
      elements += static_cast<double>(parameter.shape.elements());
      if (parameter.trained()) trained += static_cast<double>(parameter.shape.elements());
    }
    const double weights = elements > 0 ? trained / elements : 1;
    flops += modules[static_cast<size_t>(number)].flops() * (number < first ? 1 : 2 + weights) / 3;
  }
  return flops;
}

std::string TrainingFlopsRule(const RunConfig& config) {
  const ParameterTable table = DeclareRun(config);
  if (table.trained_elements() == table.elements()) return kModelFlopsRule;
  return absl::StrCat(kModelFlopsRule, ", less what is not trained");
}

void CheckFineTuning(const RunConfig& config, Rules& rules) {
  const FineTuningConfig& tuning = config.training().fine_tuning();
  if (!(tuning.layer_decay() > 0 && tuning.layer_decay() <= 1)) {
    rules.Bad(absl::StrCat(kPrefix, "layer_decay"),
              absl::StrCat(tuning.layer_decay(), ", must be above 0 and at most 1; nearest legal: ",
                           tuning.layer_decay() > 1 ? "1" : "0.75"));
  }
  if (tuning.frozen_layers() == 0 && tuning.freeze().empty()) return;
  const std::vector<ModuleSpec> modules = ModulesOf(config.model());
  const auto blocks =
      std::count_if(modules.begin(), modules.end(), [](const ModuleSpec& module) { return module.block; });
  if (tuning.frozen_layers() > blocks) {
    rules.Broken(kPrefix, "frozen_layers: ", tuning.frozen_layers(), ", must be at most the model's ", blocks,
                 " blocks; nearest legal: ", blocks);
    return;
  }
  const ParameterTable table = DeclareModel(config.model());
  CheckFreeze(config, table, rules);
  const std::vector<double> rates = RatesOf(config, table);
  std::set<std::string> cut;
  for (size_t i = 1; i < rates.size(); ++i) {
    const Parameter& parameter = table.all()[i];
    if (!parameter.fused_with_previous || (rates[i] > 0) == (rates[i - 1] > 0)) continue;
    const std::string parent = parameter.name.substr(0, parameter.name.rfind('.', parameter.name.rfind('.') - 1));
    if (!cut.insert(parent).second) continue;
    rules.Broken(kPrefix, "freeze: has only one of ", table.all()[i - 1].name, " and ", parameter.name,
                 ", which are used as one matrix; nearest legal: ", parent);
  }
  if (std::all_of(rates.begin(), rates.end(), [](double rate) { return rate == 0; })) {
    rules.Broken(kPrefix, "freeze: nothing is left to train; nearest legal: leave out ",
                 tuning.freeze().empty() ? "frozen_layers" : tuning.freeze(0));
  }
}

}  // namespace trefoil
