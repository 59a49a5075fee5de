#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <google/protobuf/text_format.h>

#include <map>
#include <vector>

#include "checkpoint/reader.h"
#include "launcher/checkpoints/verify.h"
#include "launcher/commands/inspect_parts.h"
#include "model/model.pb.h"
#include "runtime/number_text.h"
#include "training/trainer_state.pb.h"

namespace trefoil {
namespace {

using TensorInfo = CheckpointReader::TensorInfo;

// "adam.m" of "adam.m/blocks.0.norm.weight"; empty for a weight.
std::string GroupOf(const std::string& name) {
  const size_t slash = name.rfind('/');
  return slash == std::string::npos ? "" : name.substr(0, slash);
}

int64_t Bytes(const TensorInfo& tensor) { return tensor.shape.elements() * static_cast<int64_t>(SizeOf(tensor.dtype)); }

std::string OneLine(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.PrintToString(message, &text);
  return text;
}

void TrainerLines(const CheckpointReader& reader, std::ostream& out) {
  TrainerState state;
  if (!google::protobuf::TextFormat::ParseFromString(reader.trainer_state(), &state)) {
    InspectLine(out, "trainer", reader.trainer_state());
    return;
  }
  InspectLine(out, "step", absl::StrCat(state.step(), " of ", state.steps(), ", ", state.samples_used(), " samples used, ",
                                        state.global_batch(), " a step"));
  InspectLine(out, "seed", absl::StrCat(state.seed(), "; of the data ", state.data_seed()));
  InspectLine(out, "optimizer", OneLine(state.optimizer()));
  if (state.precision() != TrainingConfig::PRECISION_UNSET) {
    InspectLine(out, "precision", TrainingConfig::Precision_Name(state.precision()));
  }
  for (const auto& [label, files] : {std::pair("data", &state.train()), std::pair("held out", &state.held_out())}) {
    for (const TokenFileState& file : *files) {
      InspectLine(out, &file == &*files->begin() ? label : "",
                  absl::StrCat(file.name(), ": ", file.tokens(), " tokens",
                               file.source() > 0 ? absl::StrFormat(", source %d of %.3g%%", file.source(), 100 * file.share())
                                                 : std::string()));
    }
  }
  if (!state.tokenizer().empty()) InspectLine(out, "tokenizer", "checksum " + state.tokenizer());
  if (!state.program_version().empty()) InspectLine(out, "written by", state.program_version());
}

absl::Status Verify(FileSystem& fs, const std::string& folder, std::ostream& out) {
  const Verified verified = VerifyWithProgress(fs, folder);
  for (const std::string& line : DamageLines(verified)) InspectLine(out, "damaged", line);
  if (!verified.whole()) return absl::DataLossError(folder + " is damaged: " + verified.damage[0]);
  InspectLine(out, "whole", "every byte is as it was written: " + BytesText(verified.bytes));
  return absl::OkStatus();
}

}  // namespace

absl::Status InspectCheckpoint(FileSystem& fs, const InspectOptions& options, const std::string& folder,
                               std::ostream& out) {
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, folder));
  InspectLine(out, "checkpoint", folder);
  TrainerLines(reader, out);
  ModelConfig model;
  const bool known = google::protobuf::TextFormat::ParseFromString(reader.model(), &model);
  InspectLine(out, "model", known ? OneLine(model) : reader.model());

  struct Group {
    int64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<std::string, Group> groups;
  int64_t all_bytes = 0;
  for (const TensorInfo& tensor : reader.tensors()) {
    Group& group = groups[GroupOf(tensor.name)];
    ++group.tensors;
    group.elements += tensor.shape.elements();
    group.bytes += Bytes(tensor);
    all_bytes += Bytes(tensor);
  }
  TREFOIL_RETURN_IF_ERROR(reader.CheckParts());
  InspectLine(out, "size", absl::StrCat(BytesText(all_bytes), " in ", reader.data_files(), " data files"));
  for (const auto& [name, group] : groups) {
    InspectLine(out, name.empty() ? "weights" : name,
                absl::StrCat(ShortCount(static_cast<double>(group.elements)), " elements in ", group.tensors, " tensors, ",
                             BytesText(group.bytes)));
  }
  out << "\n";
  size_t width = 0;
  for (const TensorInfo& tensor : reader.tensors()) {
    if (GroupOf(tensor.name).empty()) width = std::max(width, tensor.name.size());
  }
  for (const TensorInfo& tensor : reader.tensors()) {
    if (!GroupOf(tensor.name).empty()) continue;
    out << absl::StrFormat("  %-*s  %-8s  %-20s  %s\n", static_cast<int>(width), tensor.name, Name(tensor.dtype),
                           tensor.shape.ToString(), BytesText(Bytes(tensor)));
  }
  out << "\n";
  if (options.verify) return Verify(fs, folder, out);
  InspectLine(out, "whole?", "its list of contents is; --verify reads every byte");
  return absl::OkStatus();
}

}  // namespace trefoil
