// What tests of `trefoil inspect` share.
#pragma once

#include <sstream>
#include <string>

#include "launcher/commands/inspect.h"

namespace trefoil {

struct Seen {
  absl::Status status;
  std::string text;
};

inline Seen Look(InspectOptions options) {
  std::ostringstream out;
  const absl::Status status = Inspect(FileSystem::Posix(), options, out);
  return {status, out.str()};
}

}  // namespace trefoil
