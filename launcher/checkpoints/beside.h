// What a run's checkpoints need beside them to be used: its tokenizers, and its config.
#pragma once

#include <functional>
#include <string>

#include "runtime/files/file.h"
#include "runtime/status.h"
#include "training/run.pb.h"

namespace trefoil {

// Copies them from the folder of one run to that of another, where `change` alters the config, whose first line says
// `comment`. What is there already stays. Failure: FailedPrecondition if that is another tokenizer of the same name.
absl::Status CopyBeside(FileSystem& fs, const std::string& from, const std::string& to, const std::string& comment,
                        const std::function<void(RunConfig*)>& change);

}  // namespace trefoil
