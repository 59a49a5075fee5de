// `trefoil checkpoint prune`: removes checkpoints of a run that nobody uses.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct PruneOptions {
  int keep_last = 0;       // of the newest; 0: all stay
  int64_t keep_every = 0;  // besides, those whose step is a multiple of this; 0: none
  bool dry_run = false;    // say what would be removed, and remove nothing
};

// Of the complete checkpoints of a run, or of a folder of checkpoints, those stay that `options` say, and the best
// held-out one, which does not count among the newest. Removed too is what saves that died have left. What is damaged,
// as names and sizes of files tell, or was set aside as that, is neither counted nor removed, but named.
// Failure: InvalidArgument for options that keep all; FailedPrecondition if a process owns the run; what the file system
// said, after all others were removed.
absl::Status PruneNamed(FileSystem& fs, const std::string& path, const PruneOptions& options, std::ostream& out);

}  // namespace trefoil
