// Runs a template that is parsed.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::string text, RunTemplate(*tree, {{"messages", messages}}, limits));
#pragma once

#include <cstdint>
#include <ctime>
#include <string>

#include "data/chat/chat_value.h"
#include "data/chat/template_tree.h"
#include "runtime/status.h"

namespace trefoil::chat {

// A template comes with a model, from anywhere. What one of the real ones takes is far below these.
struct Limits {
  int64_t steps = 2'000'000;          // expressions and statements, and elements and 64 bytes that they make
  int depth = 100;                    // of calls and blocks within each other
  int64_t output = int64_t{1} << 24;  // bytes
};

// `now`: of strftime_now. Failure: what the template itself raises; a value that is not there or of another kind than is
// asked for; what is not in the subset, by its name; a limit. All name the line.
absl::StatusOr<std::string> RunTemplate(const Node& tree, Dict variables, std::tm now, const Limits& limits = {});

}  // namespace trefoil::chat
