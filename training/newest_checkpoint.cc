#include "training/newest_checkpoint.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "checkpoint/directory.h"

namespace trefoil {
namespace {

absl::Status SetAside(FileSystem& fs, const std::vector<std::string>& damaged, const std::string& whole,
                      std::ostream& say) {
  for (const std::string& path : damaged) {
    TREFOIL_ASSIGN_OR_RETURN(const std::string kept, SetAsideDamaged(fs, path));
    say << "WARNING: going back to " << whole << ", the newest that is whole; the damaged one is kept as " << kept << "."
        << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace

bool MeansDamage(const absl::Status& status) {
  const bool given_up_by_disk = absl::IsUnknown(status);  // EIO
  return absl::IsDataLoss(status) || absl::IsNotFound(status) || absl::IsOutOfRange(status) || given_up_by_disk;
}

std::string DamageText(const std::string& path, const absl::Status& status) {
  return absl::StrCat("WARNING: ", path, " is damaged: ", status.message(), ".");
}

absl::Status NoneIsWhole(const std::vector<std::string>& damaged) {
  return absl::DataLossError(absl::StrCat(
      "no checkpoint of the run is whole, damaged: ", absl::StrJoin(damaged, ", "),
      "; put a copy back, or give another folder to start anew"));
}

absl::StatusOr<TrainerState> LoadNewest(FileSystem& fs, Worker& worker, const std::vector<std::string>& checkpoints,
                                        std::vector<std::string> damaged, std::ostream& say) {
  for (const std::string& path : checkpoints) {
    const absl::StatusOr<TrainerState> state = LoadCheckpoint(fs, worker, path, /*weights_only=*/false);
    if (MeansDamage(state.status())) {
      say << DamageText(path, state.status()) << std::endl;
      damaged.push_back(path);
      continue;
    }
    TREFOIL_RETURN_IF_ERROR(state.status());
    const bool first = worker.all->rank() == 0;
    TREFOIL_RETURN_IF_ERROR(worker.all->Agree(first ? SetAside(fs, damaged, path, say) : absl::OkStatus()));
    say << "Resuming from " << path << " (step " << state->step() << ", " << state->samples_used()
        << " samples used).\n";
    return state;
  }
  return NoneIsWhole(damaged);
}

}  // namespace trefoil
