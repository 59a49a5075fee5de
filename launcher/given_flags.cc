#include "launcher/given_flags.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gflags/gflags.h>

#include <algorithm>

namespace trefoil {

bool IsGiven(const char* name) { return !gflags::GetCommandLineFlagInfoOrDie(name).is_default; }

std::vector<RankFact> CommandLineFacts(const std::vector<std::string>& words) {
  std::vector<gflags::CommandLineFlagInfo> flags;
  gflags::GetAllFlags(&flags);
  std::vector<std::string> line;
  for (const gflags::CommandLineFlagInfo& flag : flags) {
    if (!flag.is_default && absl::StartsWith(flag.filename, "launcher/")) {
      line.push_back(absl::StrCat("--", flag.name, "=", flag.current_value));
    }
  }
  std::sort(line.begin(), line.end());
  line.insert(line.end(), words.begin(), words.end());
  std::vector<RankFact> facts;
  for (const std::string& word : line) facts.push_back({"command line", word});
  return facts;
}

}  // namespace trefoil
