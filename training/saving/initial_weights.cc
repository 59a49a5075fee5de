#include "training/saving/initial_weights.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <map>
#include <vector>

#include "model/families/recipe.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

constexpr char kHeadOutput[] = "head.output.";
constexpr char kPositions[] = "embedding.position.weight";

bool MayDiffer(const std::string& field, const ModelConfig& saved, const ModelConfig& model) {
  const Recipe recipe = RecipeOf(model);
  if (field == "lora") return saved.lora().rank() == 0;  // new ones
  for (const char* free :
       {"dropout", "stochastic_depth", "initial_deviation", "head", "classes", "pooling", "targets", "rope_theta", "rope_scaling"}) {
    if (field == free) return true;
  }
  if (recipe.structure == Recipe::Structure::kVision) {
    // Positions are those of the image's patches, however many are seen.
    return field == "sequence_length" || absl::StartsWith(field, "decoder_");
  }
  if (field == "decoder_length") return true;
  const bool learned = recipe.positions == Recipe::Positions::kLearned;
  return field == "sequence_length" && (!learned || model.sequence_length() <= saved.sequence_length());
}

// The prefix of the norm behind the blocks, where there is one.
std::string LastNorm(const ModelConfig& model) {
  return model.head() == ModelConfig::PATCHES ? "encoder.norm." : "head.norm.";
}

// The name in the checkpoint of what the model has under `name`; empty if it has no such thing.
std::string NameThere(const std::string& name, const ModelConfig& saved, const ModelConfig& model) {
  if (saved.head() == model.head()) return name;
  if (absl::StartsWith(name, LastNorm(model))) return LastNorm(saved) + name.substr(LastNorm(model).size());
  // Of one name and perhaps of one shape, but another thing: a masked autoencoder's last norm is its decoder's.
  return absl::StartsWith(name, kHeadOutput) || absl::StartsWith(name, LastNorm(saved)) ? "" : name;
}

bool Fits(const Parameter& parameter, const CheckpointReader::TensorInfo& there) {
  if (there.dtype != DType::kFloat32 || there.shape.rank() != parameter.shape.rank()) return false;
  if (there.shape == parameter.shape) return true;
  return parameter.name == kPositions && there.shape[1] == parameter.shape[1] && there.shape[0] > parameter.shape[0];
}

// Where each parameter that is taken is in the checkpoint, by its name here.
using Taken = std::map<std::string, CheckpointReader::TensorInfo>;

Taken WhatIsTaken(const CheckpointReader& reader, const ModelConfig& saved, const Worker& worker) {
  Taken taken;
  for (const Parameter& parameter : worker.table.all()) {
    const CheckpointReader::TensorInfo* there = reader.Find(NameThere(parameter.name, saved, worker.config.model()));
    if (there != nullptr && Fits(parameter, *there)) taken[parameter.name] = *there;
  }
  return taken;
}

// "head.*, blocks.0.mlp.up.weight": names of which no other begins with the same parts are one.
std::string Summary(const std::vector<std::string>& names, const std::vector<std::string>& others) {
  std::vector<std::string> shown;
  for (const std::string& name : names) {
    std::string text = name;
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      const std::string prefix = name.substr(0, dot + 1);
      const auto begins = [&](const std::string& other) { return absl::StartsWith(other, prefix); };
      if (std::any_of(others.begin(), others.end(), begins)) continue;
      if (std::count_if(names.begin(), names.end(), begins) > 1) text = prefix + "*";
      break;
    }
    if (shown.empty() || shown.back() != text) shown.push_back(text);
  }
  constexpr size_t kShown = 8;
  if (shown.size() <= kShown + 1) return absl::StrJoin(shown, ", ");
  const size_t more = shown.size() - kShown;
  shown.resize(kShown);
  return absl::StrCat(absl::StrJoin(shown, ", "), " ... ", more, " more");
}

std::string Describe(const CheckpointReader& reader, const std::string& path, const Worker& worker,
                     const Taken& taken) {
  std::vector<std::string> here, there, unused, fresh;
  for (const auto& [name, info] : taken) {
    here.push_back(name);
    there.push_back(info.name);
  }
  for (const Parameter& parameter : worker.table.all()) {
    if (!taken.contains(parameter.name)) fresh.push_back(parameter.name);
  }
  for (const CheckpointReader::TensorInfo& info : reader.tensors()) {
    const bool of_optimizer = absl::StrContains(info.name, "/");
    if (!of_optimizer && std::find(there.begin(), there.end(), info.name) == there.end()) unused.push_back(info.name);
  }
  std::sort(fresh.begin(), fresh.end());
  std::string line = absl::StrCat("Starting from the weights of ", path, " (step ", reader.step(), "): ");
  absl::StrAppend(&line, fresh.empty() ? "all " : "", taken.size(), " parameters are taken");
  if (!fresh.empty()) absl::StrAppend(&line, "; ", fresh.size(), " are new, at random: ", Summary(fresh, here));
  if (!unused.empty()) {
    absl::StrAppend(&line, "; ", unused.size(), " of its own are not used: ", Summary(unused, there));
  }
  return line + ".";
}

// What of a part of the store is taken, as the checkpoint names it.
ParameterStore::StatePart TakenOf(const Taken& taken, const ParameterStore& store, int i,
                                  ParameterStore::Elements elements) {
  ParameterStore::StatePart part = store.State(i, elements);
  std::erase_if(part.slices,
                [&](const ShardedTensor& slice) { return !part.of_weights || !taken.contains(slice.name); });
  for (ShardedTensor& slice : part.slices) {
    const CheckpointReader::TensorInfo& there = taken.at(slice.name);
    slice.name = there.name;
    slice.global = there.shape;
  }
  return part;
}

absl::Status LocateTaken(CheckpointReader& reader, Group& all, const Taken& taken, const ParameterStore& store) {
  std::vector<ShardedTensor> wanted;
  for (int i = 0; i < store.state_parts(); ++i) {
    const auto part = TakenOf(taken, store, i, ParameterStore::Elements::kNone);
    wanted.insert(wanted.end(), part.slices.begin(), part.slices.end());
  }
  return reader.Locate(all, wanted);
}

absl::Status ReadTaken(const CheckpointReader& reader, const Taken& taken, ParameterStore& store) {
  for (int i = 0; i < store.state_parts(); ++i) {
    const auto part = TakenOf(taken, store, i, ParameterStore::Elements::kHeld);
    if (part.slices.empty()) continue;
    TREFOIL_RETURN_IF_ERROR(reader.Read(part.slices));
    store.TakeBack(part);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckInitialWeights(const CheckpointReader& reader, const std::string& path, const ModelConfig& model) {
  TREFOIL_ASSIGN_OR_RETURN(const ModelConfig saved, ModelOfText(reader.model(), path));
  std::vector<std::string> differences =
      ModelDifferences(saved, model, [&](const std::string& field) { return MayDiffer(field, saved, model); });
  for (std::string& difference : differences) {
    if (absl::StartsWith(difference, "model.sequence_length: ")) {
      absl::StrAppend(&difference, ", but its learned positions end there; nearest legal: ", saved.sequence_length());
    } else if (absl::StartsWith(difference, "model.lora: ")) {
      absl::StrAppend(&difference, "; `trefoil merge` adds the checkpoint's adapters to its matrices");
    }
  }
  return OtherModel("training.checkpoint.initial_weights: " + path, differences,
                    "Give the weights' model, or weights of this one.");
}

absl::StatusOr<std::string> LoadInitialWeights(FileSystem& fs, Worker& worker, const std::string& path) {
  TREFOIL_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::OpenOnAll(fs, *worker.all, path));
  TREFOIL_RETURN_IF_ERROR(CheckInitialWeights(reader, path, worker.config.model()));
  TREFOIL_ASSIGN_OR_RETURN(const ModelConfig saved, ModelOfText(reader.model(), path));
  const Taken taken = WhatIsTaken(reader, saved, worker);
  TREFOIL_RETURN_IF_ERROR(LocateTaken(reader, *worker.all, taken, worker.store));
  worker.store.Initialize(worker.config.training().seed(), worker.groups);
  TREFOIL_RETURN_IF_ERROR(worker.all->Agree(ReadTaken(reader, taken, worker.store)));
  worker.store.PublishMasterWeights(worker.groups);
  return Describe(reader, path, worker, taken);
}

}  // namespace trefoil
