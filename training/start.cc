#include "training/start.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/text_format.h>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "data/tokens/tokenizer_files.h"
#include "parallel/same_on_ranks.h"
#include "runtime/version.h"
#include "training/config/validate.h"
#include "training/identity.h"
#include "training/saving/checkpoint_space.h"
#include "training/saving/initial_weights.h"
#include "training/saving/newest_checkpoint.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

using google::protobuf::TextFormat;

// Empty if the config names none.
absl::StatusOr<TokenizerFiles> ReadTokenizer(FileSystem& fs, const RunConfig& config) {
  const std::string& path = config.data().tokenizer();
  if (path.empty()) return TokenizerFiles();
  absl::StatusOr<TokenizerFiles> files = ReadTokenizerFiles(fs, path);
  if (files.ok()) return files;
  return absl::Status(files.status().code(), "data.tokenizer: " + std::string(files.status().message()));
}

// What the run's folder has.
absl::StatusOr<TokenizerFiles> ReadTokenizerOfRun(FileSystem& fs, const RunConfig& config) {
  const std::string path = TokenizerIn(fs, config.folder());
  if (path.empty()) return TokenizerFiles();
  return ReadTokenizerFiles(fs, path);
}

// A tokenizer that checkpoints were trained with is what gives them their meaning.
absl::Status CheckTokenizer(FileSystem& fs, const RunConfig& config, const TokenizerFiles& tokenizer, bool allow_change,
                            std::vector<std::string>* notes) {
  TREFOIL_ASSIGN_OR_RETURN(const TokenizerFiles there, ReadTokenizerOfRun(fs, config));
  if (tokenizer.empty() || there.empty() || there.content == tokenizer.content) return absl::OkStatus();
  const std::string copy = TokenizerFileName(there.json), kept = TokenizerFileName(there.json, there.checksum());
  if (!allow_change) {
    return absl::FailedPreconditionError("data.tokenizer: " + config.data().tokenizer() + " (" + tokenizer.checksum() +
                                         ") is another tokenizer than the run's " + config.folder() + "/" + copy + " (" +
                                         there.checksum() + "); give the run another folder, or --allow_change, which keeps " +
                                         "that as " + kept);
  }
  notes->push_back("Note: the run's " + copy + " is replaced; the one before is kept as " + kept + ".");
  return absl::OkStatus();
}

// An evaluation takes what there is.
void NoteEvaluation(const RunConfig& config, const RunData& data, std::vector<std::string>* notes) {
  if (data.held_out.samples == nullptr) return;
  const int64_t wanted = config.training().evaluate_samples();
  if (data.evaluation_samples == wanted || wanted == kEvaluationSamples) return;
  notes->push_back("Note: training.evaluate_samples: " + std::to_string(wanted) + ", but data.held_out has " +
                   std::to_string(data.evaluation_samples) + ": all of them are used.");
}

// What a start from the checkpoint changes, for `notes`; an error if it is too much. Sets the step to go on from.
absl::Status CheckChanges(const CheckpointReader& reader, const std::string& folder, const RunConfig& config,
                          bool allow_change, RunStart* start, int64_t* step) {
  TREFOIL_RETURN_IF_ERROR(
      CheckModel(reader, folder, config.model(), "Give the run another folder, or the checkpoint's model."));
  TrainerState state;
  ModelConfig model;
  if (!TextFormat::ParseFromString(reader.trainer_state(), &state) ||
      !TextFormat::ParseFromString(reader.model(), &model)) {
    return absl::DataLossError(folder + ": the trainer state is not readable");
  }
  std::string refused;
  for (const Change& change : ChangesSince({state, model}, {start->identity, config.model()})) {
    if (change.harmless || allow_change) {
      start->notes.push_back("Note: " + change.Text() + ".");
    } else {
      refused += "\n  " + change.Text();
    }
  }
  if (!refused.empty()) {
    return absl::FailedPreconditionError(folder + " is of a run that this start would change:" + refused +
                                         "\nGive the run another folder, or --allow_change to go on with the change.");
  }
  if (start->identity.tokenizer().empty()) start->identity.set_tokenizer(state.tokenizer());
  *step = state.step();
  return absl::OkStatus();
}

// The first of `checkpoints` whose manifest is whole; the damaged ones before it are taken out of them.
absl::StatusOr<std::unique_ptr<CheckpointReader>> OpenFirstWhole(FileSystem& fs, Candidates* candidates,
                                                                 std::vector<std::string>* notes) {
  std::unique_ptr<CheckpointReader> whole;
  const auto open = [&](const std::string& path) -> absl::Status {
    const CheckpointOnHosts* const on_hosts = candidates->OnHosts(path);
    TREFOIL_ASSIGN_OR_RETURN(CheckpointReader reader, on_hosts != nullptr ? CheckpointReader::Open(fs, *on_hosts)
                                                                          : CheckpointReader::Open(fs, path));
    whole = std::make_unique<CheckpointReader>(std::move(reader));
    return absl::OkStatus();
  };
  std::vector<std::string>& checkpoints = candidates->checkpoints;
  TREFOIL_RETURN_IF_ERROR(FirstWhole(checkpoints, open, &candidates->damaged, [&](const std::string& text) {
                            notes->push_back(text);
                          }).status());
  checkpoints.erase(checkpoints.begin(), checkpoints.begin() + static_cast<std::ptrdiff_t>(candidates->damaged.size()));
  return whole;
}

// The checkpoints in the folder that all hosts share.
absl::Status ListCandidates(FileSystem& fs, const RunConfig& config, RunStart* start) {
  std::vector<std::string> ignored;
  auto complete = CompleteCheckpoints(fs, CheckpointsFolder(config), &ignored);
  if (!complete.ok() && !fs.Exists(config.folder())) {
    return absl::Status(complete.status().code(), absl::StrCat("folder: ", config.folder(), " cannot be made: ",
                                                               complete.status().message()));
  }
  TREFOIL_RETURN_IF_ERROR(complete.status());
  start->candidates.checkpoints = *std::move(complete);
  for (const std::string& name : ignored) start->notes.push_back("Ignoring " + name + ": not a complete checkpoint.");
  return absl::OkStatus();
}

constexpr char kInitialWeights[] = "training.checkpoint.initial_weights: ";

// The same tokens and the same positions.
absl::Status CheckMeaning(const CheckpointReader& reader, const std::string& path, const RunConfig& config,
                          bool allow_change, RunStart* start) {
  TrainerState state;
  if (!TextFormat::ParseFromString(reader.trainer_state(), &state)) {
    return absl::DataLossError(path + ": the trainer state is not readable");
  }
  TREFOIL_ASSIGN_OR_RETURN(const ModelConfig model, ModelOfText(reader.model(), path));
  std::string refused;
  for (const Change& change : ChangesSince({state, model}, {start->identity, config.model()})) {
    if (change.name != "data.tokenizer" && change.name != "model.rope_theta" && change.name != "model.rope_scaling") {
      continue;
    }
    if (allow_change) {
      start->notes.push_back("Note: of the initial weights, " + change.Text() + ".");
    } else {
      refused += "\n  " + change.Text();
    }
  }
  if (!refused.empty()) {
    return absl::FailedPreconditionError(kInitialWeights + path + " would have another meaning in this run:" + refused +
                                         "\nGive what the weights were trained with, or --allow_change.");
  }
  if (start->identity.tokenizer().empty()) start->identity.set_tokenizer(state.tokenizer());
  return absl::OkStatus();
}

// Sets initial_weights, notes.
absl::Status FindInitialWeights(FileSystem& fs, const RunConfig& config, bool allow_change, RunStart* start) {
  absl::StatusOr<CheckpointPlace> place = FindTrained(fs, config.training().checkpoint().initial_weights());
  if (!place.ok()) {
    return absl::Status(place.status().code(), kInitialWeights + std::string(place.status().message()));
  }
  Candidates candidates = {.checkpoints = place->checkpoints, .damaged = {}, .on_hosts = {}};
  std::vector<std::string> warnings;
  const auto reader = OpenFirstWhole(fs, &candidates, &warnings);
  if (!reader.ok()) {
    return absl::Status(reader.status().code(), absl::StrCat(kInitialWeights, reader.status().message(), "\n",
                                                             absl::StrJoin(warnings, "\n")));
  }
  start->notes.insert(start->notes.end(), warnings.begin(), warnings.end());
  start->initial_weights = candidates.checkpoints.front();
  TREFOIL_RETURN_IF_ERROR(CheckInitialWeights(**reader, start->initial_weights, config.model()));
  return CheckMeaning(**reader, start->initial_weights, config, allow_change, start);
}

// On rank 0, from the candidates. Sets candidates, initial_weights, notes, the step to go on from.
absl::Status LookAtFolder(FileSystem& fs, const RunConfig& config, const TokenizerFiles& tokenizer, bool allow_change,
                          RunStart* start, int64_t* step) {
  std::unique_ptr<CheckpointReader> newest;
  if (!start->candidates.checkpoints.empty()) {
    TREFOIL_ASSIGN_OR_RETURN(newest, OpenFirstWhole(fs, &start->candidates, &start->notes));
  }
  const std::string& weights = config.training().checkpoint().initial_weights();
  if (newest != nullptr) {
    TREFOIL_RETURN_IF_ERROR(
        CheckChanges(*newest, start->candidates.checkpoints.front(), config, allow_change, start, step));
    if (!weights.empty()) {
      start->notes.push_back(
          "Note: training.checkpoint.initial_weights is not read: the run goes on from its own checkpoint.");
    }
  } else if (!weights.empty()) {
    TREFOIL_RETURN_IF_ERROR(FindInitialWeights(fs, config, allow_change, start));
  }
  return CheckTokenizer(fs, config, tokenizer, allow_change, &start->notes);
}

// That the file system for snapshots is there, of who makes a folder in it: made anew it would be no memory.
absl::Status CheckMemoryFolder(FileSystem& fs, const RunConfig& config, const RunStorage& storage, const Group& all) {
  const std::string& folder = config.training().checkpoint().memory_folder();
  if (!storage.memory.has_value() || !storage.memory->Leads(all) || fs.Exists(folder)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("training.checkpoint.memory_folder: ", folder, " does not exist on host ",
                                                 all.membership().hosts->of(all.rank()),
                                                 "; must be a file system in memory, on each host; nearest legal: /dev/shm"));
}

// Whether there is a folder that another job may have: the run's, or a host's.
bool HasFolder(FileSystem& fs, const RunConfig& config, const RunStorage& storage, Group& all) {
  double there = all.rank() == 0 && fs.Exists(config.folder()) ? 1 : 0;
  for (const CheckpointStorage* each : {&storage.disk, storage.memory.has_value() ? &*storage.memory : nullptr}) {
    if (each != nullptr && each->of_hosts && each->Leads(all) && fs.Exists(each->folder)) there = 1;
  }
  all.AllReduceMax(std::span(&there, 1));
  return there > 0;
}

// What hosts have together in folders of their own.
absl::Status FindOnHosts(FileSystem& fs, const CheckpointStorage& storage, Group& all, RunStart* start) {
  TREFOIL_ASSIGN_OR_RETURN(const auto found, FindOnHosts(fs, all, storage.folder, &start->notes));
  Candidates& candidates = start->candidates;
  for (const CheckpointOnHosts& checkpoint : found) {
    candidates.checkpoints.push_back(checkpoint.path);
    candidates.on_hosts.push_back(checkpoint);
  }
  return absl::OkStatus();
}

// On every rank: of one step that on disk comes first.
absl::Status FindCandidates(FileSystem& fs, const RunConfig& config, const RunStorage& storage, Group& all,
                            RunStart* start) {
  if (storage.disk.of_hosts) {
    TREFOIL_RETURN_IF_ERROR(FindOnHosts(fs, storage.disk, all, start));
  } else {
    TREFOIL_RETURN_IF_ERROR(all.Agree(all.rank() == 0 ? ListCandidates(fs, config, start) : absl::OkStatus()));
  }
  if (!storage.memory.has_value()) return absl::OkStatus();
  std::vector<std::string>& paths = start->candidates.checkpoints;
  // Snapshots of a run that is not there any more are not this run's.
  double there = !paths.empty() || (all.rank() == 0 && fs.Exists(config.folder() + "/config.pbtxt")) ? 1 : 0;
  all.AllReduceMax(std::span(&there, 1));
  if (there == 0) {
    const auto old = CompleteCheckpoints(fs, storage.memory->folder);
    double snapshots = old.ok() && !old->empty() ? 1 : 0;
    all.AllReduceMax(std::span(&snapshots, 1));
    start->drop_snapshots = snapshots > 0;
    if (start->drop_snapshots) {
      start->notes.push_back("Note: the snapshots in " + storage.memory->folder + " are of a run in " + config.folder() +
                             " that is not there any more; they are removed.");
    }
    return absl::OkStatus();
  }
  TREFOIL_RETURN_IF_ERROR(FindOnHosts(fs, *storage.memory, all, start));
  std::stable_sort(paths.begin(), paths.end(),
                   [](const std::string& a, const std::string& b) { return StepOf(a) > StepOf(b); });
  return absl::OkStatus();
}

// Of who leads, on its own disk and in its own memory; rank 0 gets the warnings.
absl::Status CheckSpaceOnAll(FileSystem& fs, const RunConfig& config, const RunStorage& storage, int64_t step, Group& all,
                             std::vector<std::string>* notes) {
  absl::Status status;
  std::vector<std::string> warnings;
  const double of_host = static_cast<double>(all.membership().hosts->LocalSize(all.rank())) / all.size();
  if (storage.disk.Leads(all)) {
    status = CheckSpace(fs, config, storage.disk.of_hosts ? storage.disk.copies * of_host : 1, step, &warnings);
  }
  if (storage.memory.has_value() && storage.memory->Leads(all)) {
    status.Update(CheckMemorySpace(fs, config, storage.memory->folder, storage.memory->copies * of_host));
  }
  for (const std::string& of_rank : all.GatherStrings(absl::StrJoin(warnings, "\n"))) {
    if (!of_rank.empty()) notes->push_back(of_rank);
  }
  return all.Agree(status);
}

}  // namespace

absl::StatusOr<RunStart> FindStart(FileSystem& fs, const RunConfig& config, Group& all, bool allow_change) {
  RunStart start;
  TREFOIL_ASSIGN_OR_RETURN(start.data, OpenRunData(config, all));
  const absl::StatusOr<TokenizerFiles> tokenizer = ReadTokenizer(fs, config);
  TREFOIL_RETURN_IF_ERROR(all.Agree(tokenizer.status()));
  TREFOIL_RETURN_IF_ERROR(CheckSameOnRanks(all, {{"data.tokenizer", tokenizer->checksum()}}));
  NoteEvaluation(config, start.data, &start.notes);
  start.identity = IdentityOf(config, start.data, tokenizer->checksum());
  TREFOIL_ASSIGN_OR_RETURN(start.storage, StorageOf(config, all));
  const RunStorage& storage = start.storage;
  TREFOIL_RETURN_IF_ERROR(all.Agree(CheckMemoryFolder(fs, config, storage, all)));
  if (HasFolder(fs, config, storage, all)) {
    TREFOIL_ASSIGN_OR_RETURN(start.folder, RunFolder::Take(fs, config.folder(), storage, all, &start.notes));
  }
  TREFOIL_RETURN_IF_ERROR(FindCandidates(fs, config, storage, all, &start));
  int64_t step = 0;
  absl::Status looked = absl::OkStatus();
  if (all.rank() == 0) looked = LookAtFolder(fs, config, *tokenizer, allow_change, &start, &step);
  TREFOIL_RETURN_IF_ERROR(all.Agree(looked));
  step = std::stoll(all.BroadcastString(absl::StrCat(step)));
  TREFOIL_RETURN_IF_ERROR(CheckSpaceOnAll(fs, config, storage, step, all, &start.notes));
  for (std::vector<std::string>* paths : {&start.candidates.checkpoints, &start.candidates.damaged}) {
    const std::string of_rank_zero = all.BroadcastString(absl::StrJoin(*paths, "\n"));
    *paths = absl::StrSplit(of_rank_zero, '\n', absl::SkipEmpty());
  }
  start.initial_weights = all.BroadcastString(start.initial_weights);
  return start;
}

absl::Status OwnRunFolder(FileSystem& fs, const RunConfig& config, Group& all, RunStart* start) {
  if (start->folder != nullptr) {
    if (start->drop_snapshots && start->storage.memory->Leads(all)) RemoveAllCheckpoints(fs, start->storage.memory->folder);
    return absl::OkStatus();
  }
  TREFOIL_ASSIGN_OR_RETURN(start->folder, RunFolder::Take(fs, config.folder(), start->storage, all, &start->notes));
  absl::Status status;
  if (const CheckpointStorage& storage = start->storage.disk; storage.Leads(all)) {
    const auto complete = CompleteCheckpoints(fs, storage.folder);
    status = complete.status();
    if (complete.ok() && !complete->empty()) {
      status = absl::FailedPreconditionError("folder: another job has trained in " + config.folder() +
                                             " while this one started; start again to go on from there");
    }
  }
  return all.Agree(status);
}

absl::Status WriteRunFolder(FileSystem& fs, const RunConfig& config) {
  TREFOIL_ASSIGN_OR_RETURN(const TokenizerFiles tokenizer, ReadTokenizer(fs, config));
  TREFOIL_ASSIGN_OR_RETURN(const TokenizerFiles there, ReadTokenizerOfRun(fs, config));
  if (!tokenizer.empty() && there != tokenizer) {
    if (!there.empty() && there.content != tokenizer.content) {
      TREFOIL_RETURN_IF_ERROR(WriteTokenizerFiles(fs, config.folder(), there, there.checksum()));
    }
    TREFOIL_RETURN_IF_ERROR(WriteTokenizerFiles(fs, config.folder(), tokenizer));
  }
  std::string text;
  TextFormat::PrintToString(config, &text);
  return WriteFileAtomically(fs, config.folder() + "/config.pbtxt",
                             "# The config of this run as it was last started, with every default filled in.\n"
                             "# By trefoil " + VersionText() + ".\n" + text);
}

}  // namespace trefoil
