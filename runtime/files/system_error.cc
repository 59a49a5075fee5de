#include "runtime/files/system_error.h"

#include <algorithm>
#include <cctype>
#include <cstring>

namespace trefoil {

absl::Status SystemError(const std::string& path, int error) {
  std::string text = std::strerror(error);
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return absl::Status(absl::ErrnoToStatusCode(error), path + ": " + text);
}

}  // namespace trefoil
