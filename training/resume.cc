#include "training/resume.h"

#include <google/protobuf/text_format.h>

#include <algorithm>

#include "checkpoint/directory.h"
#include "checkpoint/writer.h"
#include "training/validate.h"

namespace trefoil {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;

// Fields of ModelConfig that may change while the parameters stay what they are.
bool MayChange(const std::string& field, const ModelConfig& model) {
  if (field == "dropout" || field == "initial_deviation") return true;
  // Without learned positions a context may be lengthened.
  return model.family() == ModelConfig::LLAMA && (field == "sequence_length" || field == "rope_theta");
}

std::string ValueText(const google::protobuf::Message& message, const FieldDescriptor* field) {
  std::string text;
  TextFormat::PrintFieldValueToString(message, field, -1, &text);
  return text;
}

absl::StatusOr<TrainerState> ReadInto(FileSystem& fs, Worker& worker, const std::string& folder, bool weights_only) {
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, folder));
  TREFOIL_RETURN_IF_ERROR(CheckModel(reader, folder, worker.config.model(), "Give the checkpoint's model."));
  TrainerState state;
  if (!weights_only && !TextFormat::ParseFromString(reader.trainer_state(), &state)) {
    return absl::DataLossError(folder + ": the trainer state is not readable");
  }
  ParameterStore::HostState host = worker.store.State(/*owned_only=*/false);
  if (weights_only) std::erase_if(host.slices, [](const ShardedTensor& s) { return s.name.starts_with("adam."); });
  TREFOIL_RETURN_IF_ERROR(reader.Read(host.slices));
  worker.store.TakeBack(host);
  return state;
}

}  // namespace

std::string CheckpointsFolder(const RunConfig& config) { return config.folder() + "/checkpoints"; }

std::string ModelText(const ModelConfig& model) {
  std::string text;
  TextFormat::PrintToString(model, &text);
  return text;
}

absl::Status CheckModel(const CheckpointReader& reader, const std::string& what, const ModelConfig& model,
                        const std::string& remedy) {
  const std::vector<std::string> differences = ModelDifferences(reader.model(), model);
  if (differences.empty()) return absl::OkStatus();
  std::string message = what + " is a checkpoint of another model:";
  for (const std::string& difference : differences) message += "\n  " + difference;
  return absl::FailedPreconditionError(message + "\n" + remedy);
}

absl::Status SaveCheckpoint(FileSystem& fs, Worker& worker, const TrainerState& state) {
  CheckpointContent content;
  content.step = state.step();
  TextFormat::PrintToString(state, &content.trainer_state);
  content.model = ModelText(worker.config.model());
  const ParameterStore::HostState host = worker.store.State(/*owned_only=*/true);
  content.slices = host.slices;
  return WriteCheckpoint(fs, *worker.all, CheckpointsFolder(worker.config), content,
                         worker.config.training().checkpoint().keep_last());
}

absl::StatusOr<TrainerState> LoadCheckpoint(FileSystem& fs, Worker& worker, const std::string& folder,
                                            bool weights_only) {
  absl::StatusOr<TrainerState> state = ReadInto(fs, worker, folder, weights_only);
  TREFOIL_RETURN_IF_ERROR(worker.all->Agree(state.status()));
  worker.store.PublishMasterWeights(*worker.data);
  return state;
}

std::vector<std::string> ModelDifferences(const std::string& saved, const ModelConfig& model) {
  ModelConfig other;
  if (!TextFormat::ParseFromString(saved, &other)) return {"its model description is not readable"};
  // A field that the program which saved it did not have yet.
  ModelDefaults(&other);
  std::vector<std::string> differences;
  const google::protobuf::Descriptor* descriptor = ModelConfig::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    const std::string there = ValueText(other, field), here = ValueText(model, field);
    if (there == here || MayChange(field->name(), model)) continue;
    differences.push_back("model." + field->name() + ": " + there + " in the checkpoint, " + here + " in this run");
  }
  return differences;
}

}  // namespace trefoil
