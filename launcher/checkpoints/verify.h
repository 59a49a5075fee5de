// `trefoil checkpoint verify`: whether every byte is as it was written.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

#include "checkpoint/upkeep/verify.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// One checkpoint, with a progress bar and as many threads as this process has cores, up to eight.
Verified VerifyWithProgress(FileSystem& fs, const std::string& checkpoint);
// The first lines of the damage, and how many more there are.
std::vector<std::string> DamageLines(const Verified& verified);

// The complete checkpoints of what is named, newest first, or that of `step`; or the one that is named, even if it is not
// complete. A line each, and lines of what is damaged.
// Failure: DataLoss if any is damaged, after all were read; NotFound if there is none.
absl::Status VerifyNamed(FileSystem& fs, const std::string& path, std::optional<int64_t> step, std::ostream& out);

}  // namespace trefoil
