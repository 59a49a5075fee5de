#include "training/saving/newest_checkpoint.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <google/protobuf/text_format.h>

#include <algorithm>

namespace trefoil {
namespace {

absl::Status SetAside(FileSystem& fs, const Group& all, const RunStorage& storage,
                      const std::vector<std::string>& damaged, const std::string& whole, std::ostream& say) {
  for (const std::string& path : damaged) {
    const CheckpointStorage& of_path = storage.Of(path);
    if (!of_path.Leads(all) || !fs.Exists(path)) continue;
    if (&of_path != &storage.disk) {  // memory is not for keeping
      TREFOIL_RETURN_IF_ERROR(fs.Remove(path));
      continue;
    }
    TREFOIL_ASSIGN_OR_RETURN(const std::string kept, SetAsideDamaged(fs, path));
    say << "WARNING: going back to " << whole << ", the newest that is whole; the damaged one is kept as " << kept << "."
        << std::endl;
  }
  return absl::OkStatus();
}

// As opposed to: of another model, or not to be read just now.
bool MeansDamage(const absl::Status& status) {
  const bool given_up_by_disk = absl::IsUnknown(status);  // EIO
  return absl::IsDataLoss(status) || absl::IsNotFound(status) || absl::IsOutOfRange(status) || given_up_by_disk;
}

// Of the run that has written it; 0: none that it knows of, or it is not readable.
int64_t BestStepOf(FileSystem& fs, const std::string& checkpoint) {
  const absl::StatusOr<CheckpointReader> reader = CheckpointReader::Open(fs, checkpoint);
  TrainerState state;
  if (!reader.ok() || !google::protobuf::TextFormat::ParseFromString(reader->trainer_state(), &state)) return 0;
  return state.early_stop().step();
}

}  // namespace

absl::StatusOr<CheckpointPlace> FindTrained(FileSystem& fs, const std::string& path) {
  const std::optional<RunConfig> config = ConfigOfRun(fs, path);
  const bool on_host = config.has_value() && !config->training().checkpoint().folder().empty();
  TREFOIL_ASSIGN_OR_RETURN(CheckpointPlace place, FindCheckpoints(fs, on_host ? CheckpointsFolder(*config) : path));
  if (on_host) place.run = path;
  std::vector<std::string>& checkpoints = place.checkpoints;
  if (checkpoints.size() == 1) return place;
  const int64_t best = BestStep(fs, checkpoints);
  const auto found = std::find_if(checkpoints.begin(), checkpoints.end(),
                                  [&](const std::string& checkpoint) { return StepOf(checkpoint) == best; });
  if (found != checkpoints.end()) std::rotate(checkpoints.begin(), found, found + 1);
  return place;
}

int64_t BestStep(FileSystem& fs, const std::vector<std::string>& checkpoints) {
  int64_t best = 0;
  for (auto it = checkpoints.begin(); it != checkpoints.end() && best == 0; ++it) best = BestStepOf(fs, *it);
  return best;
}

absl::StatusOr<std::string> FirstWhole(const std::vector<std::string>& checkpoints,
                                       const std::function<absl::Status(const std::string& path)>& load,
                                       std::vector<std::string>* damaged,
                                       const std::function<void(const std::string& text)>& warn) {
  for (const std::string& path : checkpoints) {
    const absl::Status status = load(path);
    if (status.ok()) return path;
    if (!MeansDamage(status)) return status;
    warn(absl::StrCat("WARNING: ", path, " is damaged: ", status.message(), "."));
    damaged->push_back(path);
  }
  return absl::DataLossError(absl::StrCat("no checkpoint of the run is whole, damaged: ", absl::StrJoin(*damaged, ", "),
                                          "; put a copy back, or give another folder to start anew"));
}

const CheckpointOnHosts* Candidates::OnHosts(const std::string& path) const {
  const auto found = std::find_if(on_hosts.begin(), on_hosts.end(),
                                  [&](const CheckpointOnHosts& checkpoint) { return checkpoint.path == path; });
  return found == on_hosts.end() ? nullptr : &*found;
}

absl::StatusOr<TrainerState> LoadNewest(FileSystem& fs, Worker& worker, const RunStorage& storage,
                                        Candidates candidates, std::ostream& say) {
  TrainerState state;
  const auto load = [&](const std::string& path) -> absl::Status {
    const CheckpointOnHosts* const on_hosts = candidates.OnHosts(path);
    TREFOIL_ASSIGN_OR_RETURN(state, on_hosts != nullptr
                                        ? LoadCheckpoint(fs, worker, *on_hosts)
                                        : LoadCheckpoint(fs, worker, path, /*weights_only=*/false));
    return absl::OkStatus();
  };
  TREFOIL_ASSIGN_OR_RETURN(
      const std::string path,
      FirstWhole(candidates.checkpoints, load, &candidates.damaged,
                 [&](const std::string& text) { say << text << std::endl; }));
  TREFOIL_RETURN_IF_ERROR(worker.all->Agree(SetAside(fs, *worker.all, storage, candidates.damaged, path, say)));
  say << "Resuming from " << path << " (step " << state.step() << ", " << state.samples_used() << " samples used).\n";
  return state;
}

}  // namespace trefoil
