#include "launcher/repeated_flags.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

namespace trefoil {

absl::StatusOr<std::vector<std::string>> TakeRepeated(const std::string& name, const std::string& value, int* argc,
                                                      char** argv) {
  std::vector<std::string> values;
  int kept = 0;
  for (int i = 0; i < *argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--") {
      while (i < *argc) argv[kept++] = argv[i++];
      break;
    }
    if (argument == "--" + name || argument == "-" + name) {
      if (i + 1 == *argc) {
        return absl::InvalidArgumentError(absl::StrCat("--", name, ": nothing follows; give ", value));
      }
      values.emplace_back(argv[++i]);
    } else if (absl::StartsWith(argument, "--" + name + "=") || absl::StartsWith(argument, "-" + name + "=")) {
      values.push_back(argument.substr(argument.find('=') + 1));
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  argv[kept] = nullptr;
  return values;
}

}  // namespace trefoil
