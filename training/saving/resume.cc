#include "training/saving/resume.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <google/protobuf/text_format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "checkpoint/directory.h"
#include "runtime/files/crc32c.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;

// Fields of ModelConfig that may change while the parameters stay what they are.
bool MayChange(const std::string& field, const ModelConfig& model) {
  if (field == "dropout" || field == "initial_deviation" || field == "targets") return true;
  // Without learned positions a context may be lengthened.
  return model.family() == ModelConfig::LLAMA && (field == "sequence_length" || field == "rope_theta" || field == "rope_scaling");
}

std::string ValueText(const google::protobuf::Message& message, const FieldDescriptor* field) {
  std::string text;
  TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.PrintFieldValueToString(message, field, -1, &text);
  return text;
}

bool OfOptimizer(const CheckpointReader::TensorInfo& tensor) { return absl::StrContains(tensor.name, "/"); }

absl::StatusOr<TrainerState> ReadState(const CheckpointReader& reader, const std::string& folder,
                                       const ModelConfig& model, bool weights_only) {
  TREFOIL_RETURN_IF_ERROR(CheckModel(reader, folder, model, "Give the checkpoint's model."));
  TrainerState state;
  if (weights_only) return state;
  if (std::none_of(reader.tensors().begin(), reader.tensors().end(), OfOptimizer)) {
    return absl::FailedPreconditionError(folder +
                                         " has weights only, and no run goes on from it; give it as "
                                         "training.checkpoint.initial_weights of a run in another folder");
  }
  if (!TextFormat::ParseFromString(reader.trainer_state(), &state)) {
    return absl::DataLossError(folder + ": the trainer state is not readable");
  }
  return state;
}

// What of a part of the store is loaded.
ParameterStore::StatePart Loaded(const CheckpointReader& reader, const ParameterStore& store, int i, bool weights_only,
                                 ParameterStore::Elements elements) {
  ParameterStore::StatePart part = store.State(i, elements);
  if (weights_only && !part.of_weights) part.slices.clear();
  if (!part.of_weights) {
    // Of a parameter that was not trained when it was saved: zeros, as at the start.
    std::erase_if(part.slices, [&](const ShardedTensor& slice) { return reader.Find(slice.name) == nullptr; });
  }
  return part;
}

absl::Status LocateElements(CheckpointReader& reader, Group& all, const ParameterStore& store, bool weights_only) {
  std::vector<ShardedTensor> wanted;
  for (int i = 0; i < store.state_parts(); ++i) {
    const auto part = Loaded(reader, store, i, weights_only, ParameterStore::Elements::kNone);
    wanted.insert(wanted.end(), part.slices.begin(), part.slices.end());
  }
  return reader.Locate(all, wanted);
}

// As many parts on every rank, whose calls of ReadOnHosts go together.
absl::Status ReadElementsOnHosts(const CheckpointReader& reader, Group& all, ParameterStore& store, bool weights_only) {
  double most = store.state_parts();
  all.AllReduceMax(std::span(&most, 1));
  for (int i = 0; i < static_cast<int>(most); ++i) {
    ParameterStore::StatePart part;
    if (i < store.state_parts()) part = Loaded(reader, store, i, weights_only, ParameterStore::Elements::kToFill);
    TREFOIL_RETURN_IF_ERROR(reader.ReadOnHosts(all, part.slices));
    if (!part.slices.empty()) store.TakeBack(part);
  }
  return absl::OkStatus();
}

absl::Status ReadElements(const CheckpointReader& reader, ParameterStore& store, bool weights_only) {
  for (int i = 0; i < store.state_parts(); ++i) {
    const auto part = Loaded(reader, store, i, weights_only, ParameterStore::Elements::kToFill);
    if (part.slices.empty()) continue;
    TREFOIL_RETURN_IF_ERROR(reader.Read(part.slices));
    store.TakeBack(part);
  }
  return absl::OkStatus();
}

absl::StatusOr<TrainerState> Load(CheckpointReader& reader, Worker& worker, const std::string& folder,
                                  bool weights_only) {
  Group& all = *worker.all;
  absl::StatusOr<TrainerState> state = ReadState(reader, folder, worker.config.model(), weights_only);
  TREFOIL_RETURN_IF_ERROR(all.Agree(state.status()));
  TREFOIL_RETURN_IF_ERROR(LocateElements(reader, all, worker.store, weights_only));
  TREFOIL_RETURN_IF_ERROR(reader.on_hosts() ? ReadElementsOnHosts(reader, all, worker.store, weights_only)
                                            : all.Agree(ReadElements(reader, worker.store, weights_only)));
  worker.store.PublishMasterWeights(worker.groups);
  return state;
}

}  // namespace

std::string CheckpointsFolder(const RunConfig& config) {
  const std::string& of_hosts = config.training().checkpoint().folder();
  return of_hosts.empty() ? config.folder() + "/checkpoints" : of_hosts;
}

int CopiesOnDisk(const CheckpointConfig& config, int hosts) {
  return config.has_copies() ? config.copies() : std::min(2, hosts);
}
int CopiesInMemory(int hosts) { return std::min(2, hosts); }

std::optional<RunConfig> ConfigOfRun(FileSystem& fs, const std::string& run) {
  if (run.empty()) return std::nullopt;
  const auto text = ReadFile(fs, run + "/config.pbtxt");
  RunConfig config;
  if (!text.ok() || !TextFormat::ParseFromString(*text, &config)) return std::nullopt;
  return config;
}

std::string CheckpointsOfRun(FileSystem& fs, const std::string& run) {
  RunConfig config = ConfigOfRun(fs, run).value_or(RunConfig());
  config.set_folder(run);  // it may have been moved
  return CheckpointsFolder(config);
}

absl::StatusOr<RunStorage> StorageOf(const RunConfig& config, Group& all) {
  const CheckpointConfig& checkpoint = config.training().checkpoint();
  RunStorage storage = {.disk = CheckpointStorage(CheckpointsFolder(config)), .memory = std::nullopt};
  const auto most = static_cast<int>(all.membership().hosts->RanksByHost().size());
  if (!checkpoint.folder().empty()) {
    const int copies = CopiesOnDisk(checkpoint, most);
    if (copies > most) {
      return absl::InvalidArgumentError(absl::StrCat("training.checkpoint.copies: ", copies,
                                                     ", must not be above the hosts of the job, ", most,
                                                     "; nearest legal: ", most));
    }
    storage.disk = CheckpointStorage::OfHosts(checkpoint.folder(), copies);
  }
  if (checkpoint.every_steps_in_memory() > 0) {
    // The same for each start of this run by this user, and for no other.
    const std::filesystem::path run = std::filesystem::absolute(config.folder()).lexically_normal();
    const std::string name = absl::StrFormat("trefoil-%s-%08x", run.filename().string(),
                                             Crc32c(absl::StrCat(run.string(), " ", getuid())));
    storage.memory = CheckpointStorage::OfHosts(
        all.BroadcastString(absl::StrCat(checkpoint.memory_folder(), "/", name)), CopiesInMemory(most));
  }
  return storage;
}

std::string ModelText(const ModelConfig& model) {
  std::string text;
  TextFormat::PrintToString(model, &text);
  return text;
}

absl::StatusOr<ModelConfig> ModelOfText(const std::string& text, const std::string& what) {
  ModelConfig model;
  if (!TextFormat::ParseFromString(text, &model)) {
    return absl::DataLossError(what + ": its model description is not readable");
  }
  ModelDefaults(&model);
  return model;
}

absl::Status OtherModel(const std::string& what, const std::vector<std::string>& differences,
                        const std::string& remedy) {
  if (differences.empty()) return absl::OkStatus();
  std::string message = what + " is a checkpoint of another model:";
  for (const std::string& difference : differences) message += "\n  " + difference;
  return absl::FailedPreconditionError(message + "\n" + remedy);
}

absl::Status CheckModel(const CheckpointReader& reader, const std::string& what, const ModelConfig& model,
                        const std::string& remedy) {
  TREFOIL_ASSIGN_OR_RETURN(const ModelConfig saved, ModelOfText(reader.model(), what));
  return OtherModel(what, ModelDifferences(saved, model), remedy);
}

CheckpointContent ContentWithoutSlices(const Worker& worker, const TrainerState& state, const std::string& owner,
                                       const std::function<absl::Status()>& may_write) {
  CheckpointContent content;
  content.step = state.step();
  TextFormat::PrintToString(state, &content.trainer_state);
  content.model = ModelText(worker.config.model());
  content.owner = owner;
  content.may_write = may_write;
  return content;
}

absl::Status SaveCheckpoint(FileSystem& fs, Worker& worker, const CheckpointStorage& storage, const TrainerState& state,
                            const std::string& owner, const std::function<absl::Status()>& may_write) {
  CheckpointContent content = ContentWithoutSlices(worker, state, owner, may_write);
  content.parts = worker.store.state_parts();
  ParameterStore::StatePart part;  // the one that is being written
  content.part = [&](int i) {
    part = {};
    part = worker.store.State(i, ParameterStore::Elements::kOwned);
    return part.slices;
  };
  return WriteCheckpoint(fs, *worker.all, storage, content);
}

absl::StatusOr<TrainerState> LoadCheckpoint(FileSystem& fs, Worker& worker, const std::string& folder,
                                            bool weights_only) {
  TREFOIL_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::OpenOnAll(fs, *worker.all, folder));
  return Load(reader, worker, folder, weights_only);
}

absl::StatusOr<TrainerState> LoadCheckpoint(FileSystem& fs, Worker& worker, const CheckpointOnHosts& on_hosts) {
  TREFOIL_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::OpenOnAll(fs, *worker.all, on_hosts));
  return Load(reader, worker, on_hosts.path, /*weights_only=*/false);
}

std::vector<std::string> ModelDifferences(const ModelConfig& saved, const ModelConfig& model,
                                          const std::function<bool(const std::string& field)>& may_differ) {
  std::vector<std::string> differences;
  const google::protobuf::Descriptor* descriptor = ModelConfig::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    const std::string there = ValueText(saved, field), here = ValueText(model, field);
    if (there == here || may_differ(field->name())) continue;
    differences.push_back("model." + field->name() + ": " + there + " in the checkpoint, " + here + " in this run");
  }
  return differences;
}

std::vector<std::string> ModelDifferences(const ModelConfig& saved, const ModelConfig& model) {
  return ModelDifferences(saved, model, [&](const std::string& field) { return MayChange(field, model); });
}

}  // namespace trefoil
