// The flags that commands which make data have in common: --labels, --held_out, --split_seed.
#pragma once

#include <gflags/gflags_declare.h>

#include "runtime/status.h"

DECLARE_string(labels);
DECLARE_double(held_out);
DECLARE_uint64(split_seed);

namespace trefoil {

// An error if one is given that another makes meaningless.
absl::Status CheckCorpusFlags();

}  // namespace trefoil
