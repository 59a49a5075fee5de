// JSON from elsewhere: its mistakes in words, and limits to what it may do.
//
//   TREFOIL_ASSIGN_OR_RETURN(const nlohmann::json config, ParseJson(text, "DIR/config.json"));
//
// Threads: pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/status.h"

namespace trefoil {

// Values may lie in 64 others. Failure, with `what` before it: text that is no JSON, or has something behind it; deeper
// nesting; a key that an object has twice.
absl::StatusOr<nlohmann::json> ParseJson(const std::string& text, const std::string& what);

}  // namespace trefoil
