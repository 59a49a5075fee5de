// What a failed system call says of a file.
#pragma once

#include <string>

#include "runtime/status.h"

namespace trefoil {

// "/runs/a/x: no space left on device", with the code that belongs to `error` (errno).
absl::Status SystemError(const std::string& path, int error);

}  // namespace trefoil
