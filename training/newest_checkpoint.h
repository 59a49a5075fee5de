// Which checkpoint a run goes on from when the newest is damaged.
//
// One that is damaged (truncated, files missing, a checksum that does not match, a sector that the disk gives up) is passed
// over for the one before it, with a warning that names what is damaged; it is kept, as step-N.damaged. If none is whole
// the run does not start: it never goes back to random weights by itself.
//
// Threads: the rank's main thread; every rank of the job makes the same call and gets the same Status.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "training/resume.h"

namespace trefoil {

// Errors of reading a checkpoint that say that it is not what was written; as opposed to: of another model, or not to be
// read just now.
bool MeansDamage(const absl::Status& status);
// "WARNING: PATH is damaged: ..."
std::string DamageText(const std::string& path, const absl::Status& status);
// That all of these, which are all there are, are damaged.
absl::Status NoneIsWhole(const std::vector<std::string>& damaged);

// Loads the first of `checkpoints` (newest first, at least one) that is whole into the worker, and says which. Sets aside
// those before it and `damaged`, which were found before. `say`: rank 0's lines to people; elsewhere a sink.
absl::StatusOr<TrainerState> LoadNewest(FileSystem& fs, Worker& worker, const std::vector<std::string>& checkpoints,
                                        std::vector<std::string> damaged, std::ostream& say);

}  // namespace trefoil
