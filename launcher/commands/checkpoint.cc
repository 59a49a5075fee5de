#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <gflags/gflags.h>

#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "launcher/checkpoints/list.h"
#include "launcher/checkpoints/verify.h"
#include "launcher/commands/commands.h"
#include "launcher/given_flags.h"
#include "launcher/prepare.h"

DEFINE_int64(step, 0, "Of verify, the checkpoint of this step. Left out: all that are complete.");

namespace trefoil {
namespace {

struct Verb {
  const char* name;
  std::vector<const char*> flags;  // that it takes
  absl::Status (*perform)(FileSystem& fs, const std::vector<std::string>& paths);
};

absl::Status OnePath(const std::vector<std::string>& paths) {
  if (paths.size() == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("give one path, a run's folder, its folder checkpoints, or one of those in there; found ",
                   paths.empty() ? "none" : absl::StrJoin(paths, " ")));
}

std::optional<int64_t> GivenStep() { return IsGiven("step") ? std::optional(FLAGS_step) : std::nullopt; }

absl::Status List(FileSystem& fs, const std::vector<std::string>& paths) {
  TREFOIL_RETURN_IF_ERROR(OnePath(paths));
  return ListNamed(fs, paths[0], std::cout);
}

absl::Status Verify(FileSystem& fs, const std::vector<std::string>& paths) {
  TREFOIL_RETURN_IF_ERROR(OnePath(paths));
  return VerifyNamed(fs, paths[0], GivenStep(), std::cout);
}

const std::vector<Verb>& Verbs() {
  static const std::vector<Verb>& verbs = *new std::vector<Verb>{
      {"list", {}, List},
      {"verify", {"step"}, Verify},
  };
  return verbs;
}

absl::Status Checkpoint(const std::vector<std::string>& words, std::string* said_by) {
  std::vector<std::string> names;
  for (const Verb& verb : Verbs()) names.push_back(verb.name);
  if (words.empty()) {
    return absl::InvalidArgumentError("say what to do: " + absl::StrJoin(names, ", ") + "; `trefoil help checkpoint`");
  }
  for (const Verb& verb : Verbs()) {
    if (words[0] != verb.name) continue;
    for (const Verb& other : Verbs()) {
      for (const char* flag : other.flags) {
        const bool takes = std::find(verb.flags.begin(), verb.flags.end(), std::string(flag)) != verb.flags.end();
        if (takes || !IsGiven(flag)) continue;
        return absl::InvalidArgumentError(absl::StrCat("--", flag, ": is for ", other.name, ", not for ", verb.name));
      }
    }
    absl::StrAppend(said_by, " ", verb.name);
    return verb.perform(FileSystem::Posix(), std::vector<std::string>(words.begin() + 1, words.end()));
  }
  const std::string nearest = NearestName(words[0], names);
  return absl::InvalidArgumentError(absl::StrCat("'", words[0], "' is none of ", absl::StrJoin(names, ", "),
                                                 nearest.empty() ? "" : "; did you mean '" + nearest + "'?"));
}

}  // namespace

int CheckpointMain(int argc, char** argv) {
  std::string said_by = "checkpoint";
  const absl::Status status = Checkpoint(std::vector<std::string>(argv + 1, argv + argc), &said_by);
  std::cout << std::flush;
  return status.ok() ? 0 : Fail(said_by.c_str(), status, /*speak=*/true);
}

}  // namespace trefoil
