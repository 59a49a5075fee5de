#include "training/saving/checkpoint_space.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <numeric>

#include "checkpoint/directory.h"
#include "training/fine_tuning.h"
#include "training/saving/resume.h"
#include "training/saving/state_snapshot.h"

namespace trefoil {
namespace {

std::string GibibytesText(int64_t bytes) {
  return absl::StrFormat("%.3g GiB", static_cast<double>(bytes) / (int64_t{1} << 30));
}

// The folder, or the nearest above it that is there.
std::string Existing(FileSystem& fs, std::string folder) {
  while (!fs.Exists(folder) && FolderOf(folder) != folder) folder = FolderOf(folder);
  return folder;
}

}  // namespace

int64_t CheckpointBytes(const RunConfig& config) {
  const ParameterTable table = DeclareRun(config);
  return (table.elements() + 2 * table.trained_elements()) * int64_t{sizeof(float)};
}

int64_t SnapshotBytesOfRank(const RunConfig& config, int64_t ranks, int hosts) {
  const CheckpointConfig& checkpoint = config.training().checkpoint();
  if (checkpoint.every_steps_in_memory() == 0 || !SavesInBackground(config.training())) return 0;
  return 2 * CopiesInMemory(hosts) * CheckpointBytes(config) / ranks;
}

int64_t MostCheckpoints(const TrainingConfig& training, int64_t step) {
  const CheckpointConfig& config = training.checkpoint();
  const int64_t steps = training.steps(), every = config.every_steps();
  if (step >= steps) return 0;
  const bool keeps_best = training.early_stop().evaluations() > 0 && training.evaluate_every_steps() > 0;
  int64_t saves = every == 0 ? 1 : steps / every - step / every + (steps % every == 0 ? 0 : 1);
  // Any evaluation may turn out to be the best.
  if (keeps_best) saves += steps / training.evaluate_every_steps() - step / training.evaluate_every_steps();
  if (config.keep_last() == 0) return saves;
  int64_t for_ever = 0;
  if (every > 0 && config.keep_every() > 0) {
    const int64_t both = std::lcm(every, int64_t{config.keep_every()});
    for_ever = steps / both - step / both;
  }
  const int more = keeps_best ? 2 : 1;
  return for_ever + std::min<int64_t>(saves - for_ever, int64_t{config.keep_last()} + more);
}

absl::Status CheckSpace(FileSystem& fs, const RunConfig& config, double share, int64_t step,
                        std::vector<std::string>* notes) {
  const auto each = static_cast<int64_t>(share * static_cast<double>(CheckpointBytes(config)));
  const int64_t most = MostCheckpoints(config.training(), step);
  if (most == 0) return absl::OkStatus();
  const std::string& of_hosts = config.training().checkpoint().folder();
  const std::string folder = of_hosts.empty() ? config.folder() : of_hosts;
  const auto free = fs.FreeBytes(Existing(fs, folder));
  if (!free.ok()) {
    notes->push_back("WARNING: the free space is not known: " + std::string(free.status().message()) + ".");
    return absl::OkStatus();
  }
  if (*free < each) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: %s has %s free, but a checkpoint of this model takes %s%s; make room, or give a folder on "
                        "another file system",
                        of_hosts.empty() ? "folder" : "training.checkpoint.folder", folder, GibibytesText(*free),
                        GibibytesText(each), of_hosts.empty() ? "" : " there"));
  }
  const CheckpointConfig& checkpoint = config.training().checkpoint();
  int64_t removed = 0;
  if (checkpoint.keep_last() > 0) {
    TREFOIL_ASSIGN_OR_RETURN(const auto complete, CompleteCheckpoints(fs, CheckpointsFolder(config)));
    for (const std::string& path : complete) {
      const int64_t saved = StepOf(path);
      if (saved > step || KeepPolicy{.last = 0, .every = checkpoint.keep_every()}.ForEver(saved)) continue;
      TREFOIL_ASSIGN_OR_RETURN(const int64_t bytes, CheckpointBytesOnDisk(fs, path));
      removed += static_cast<int64_t>(share * static_cast<double>(bytes));
    }
  }
  if (*free + removed < most * each) {
    notes->push_back(absl::StrFormat(
        "WARNING: %s has %s free; checkpoints of %s each will take up to %s more (%d at the same time, while the newest is "
        "written).",
        folder, GibibytesText(*free), GibibytesText(each), GibibytesText(most * each - removed), most));
  }
  return absl::OkStatus();
}

absl::Status CheckMemorySpace(FileSystem& fs, const RunConfig& config, const std::string& folder, double share) {
  const CheckpointConfig& checkpoint = config.training().checkpoint();
  TREFOIL_ASSIGN_OR_RETURN(const auto there, CompleteCheckpoints(fs, folder));
  const auto needed = static_cast<int64_t>((there.empty() ? 2 : 1) * share * static_cast<double>(CheckpointBytes(config)));
  const absl::StatusOr<int64_t> free_bytes = fs.FreeBytes(checkpoint.memory_folder());
  if (!free_bytes.ok()) {
    return absl::Status(free_bytes.status().code(), absl::StrCat("training.checkpoint.memory_folder: ",
                                                                 free_bytes.status().message()));
  }
  const int64_t free = *free_bytes;
  if (free >= needed) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "training.checkpoint.every_steps_in_memory: %d, but %s has %s free, and %s of this model %s %s there; "
      "nearest legal: 0 (or a larger file system in memory)",
      checkpoint.every_steps_in_memory(), checkpoint.memory_folder(), GibibytesText(free),
      there.empty() ? "two snapshots" : "another snapshot", there.empty() ? "take" : "takes", GibibytesText(needed)));
}

}  // namespace trefoil
