// Flags that may be given any number of times, which gflags does not know: they stay in argv (launcher/help.h) until their
// command takes them out.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> prompts, TakeRepeated("prompt", "TEXT", &argc, argv));
#pragma once

#include <string>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

// Takes every `--NAME X` and `--NAME=X` out of argv, in order. Stops at `--`. `value` says what X is, for the error where
// nothing follows.
absl::StatusOr<std::vector<std::string>> TakeRepeated(const std::string& name, const std::string& value, int* argc,
                                                      char** argv);

}  // namespace trefoil
