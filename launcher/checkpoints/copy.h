// `trefoil checkpoint copy`: a checkpoint to a folder of its own, from one run or from folders that have a part each.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// Of the newest step that any of `from` has, or of `step`, to TO/checkpoints; beside it the config and the tokenizers of
// the first that is in a run. So TO can be used as a run's folder is. Warnings are lines of `out`; a progress bar.
// Failure: as GatherCheckpoint's (checkpoint/upkeep/gather.h), and if another process has TO.
absl::Status CopyNamed(FileSystem& fs, const std::vector<std::string>& from, const std::string& to,
                       std::optional<int64_t> step, std::ostream& out);

}  // namespace trefoil
