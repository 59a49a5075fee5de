// What `trefoil checkpoint` is pointed at: a run's folder, its folder checkpoints, or one of those in there; what is not
// complete counts too.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/directory.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct FoundCheckpoints {
  std::string run;     // its folder; empty: not known
  std::string folder;  // of its checkpoints; of one that lies elsewhere, its own
  bool one = false;    // one was named
  std::vector<CheckpointFolder> folders;  // by step; that one

  // Those that are complete, newest first.
  std::vector<std::string> Complete() const;
  // Of these; -1 if there is none.
  int64_t NewestStep() const;
};
// NotFound if nothing of the kind is there. A run that has saved nothing yet is fine.
absl::StatusOr<FoundCheckpoints> FindFolders(FileSystem& fs, std::string path);

// The step of the best evaluation, among those after which a complete checkpoint was saved: that which the run keeps
// (training.early_stop), else that of the least held-out loss in its metrics. 0: not known.
int64_t BestHeldOut(FileSystem& fs, const FoundCheckpoints& found);

}  // namespace trefoil
