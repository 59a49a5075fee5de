#include "parallel/collectives.h"

#include <cstdlib>

namespace trefoil {

// An error travels as "CODE MESSAGE", CODE in decimal; OK as nothing.
absl::Status Group::Agree(const absl::Status& status) {
  std::string text;
  if (!status.ok()) {
    text = std::to_string(static_cast<int>(status.code())) + " ";
    text.append(status.message().data(), status.message().size());
  }
  for (const std::string& other : AllGatherStrings(text)) {
    if (other.empty()) continue;
    return absl::Status(static_cast<absl::StatusCode>(std::atoi(other.c_str())), other.substr(other.find(' ') + 1));
  }
  return absl::OkStatus();
}

}  // namespace trefoil
