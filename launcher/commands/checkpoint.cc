#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "launcher/checkpoints/copy.h"
#include "launcher/checkpoints/list.h"
#include "launcher/checkpoints/prune.h"
#include "launcher/checkpoints/verify.h"
#include "launcher/commands/commands.h"
#include "launcher/given_flags.h"
#include "launcher/prepare.h"

DEFINE_int64(step, 0,
             "The checkpoint of this step. Left out: of copy the newest, of verify all that are complete.");
DEFINE_int32(keep_last, 0, "Of prune: so many of the newest stay; at least 1, or 0: all.");
DEFINE_int64(keep_every, 0, "Of prune: besides, those whose step is a multiple of this stay. 0: none.");
DEFINE_bool(dry_run, false, "Of prune: say what would be removed, and remove nothing.");

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

absl::Status Copy(FileSystem& fs, const std::vector<std::string>& paths) {
  if (paths.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat("give what to copy, one path or more, and a folder to copy to; found ",
                                                   paths.empty() ? "none" : "only " + paths[0]));
  }
  return CopyNamed(fs, {paths.begin(), paths.end() - 1}, paths.back(), GivenStep(), std::cout);
}

absl::Status Prune(FileSystem& fs, const std::vector<std::string>& paths) {
  TREFOIL_RETURN_IF_ERROR(OnePath(paths));
  const PruneOptions options = {.keep_last = FLAGS_keep_last, .keep_every = FLAGS_keep_every, .dry_run = FLAGS_dry_run};
  return PruneNamed(fs, paths[0], options, std::cout);
}

const std::vector<Verb>& Verbs() {
  static const std::vector<Verb>& verbs = *new std::vector<Verb>{
      {"list", {}, List},
      {"verify", {"step"}, Verify},
      {"copy", {"step"}, Copy},
      {"prune", {"keep_last", "keep_every", "dry_run"}, Prune},
  };
  return verbs;
}

// That no flag is given which `verb` does not take.
absl::Status CheckFlags(const Verb& verb) {
  const auto takes = [](const Verb& any, const std::string& flag) {
    return std::find(any.flags.begin(), any.flags.end(), flag) != any.flags.end();
  };
  for (const char* flag : {"step", "keep_last", "keep_every", "dry_run"}) {
    if (takes(verb, flag) || !IsGiven(flag)) continue;
    std::vector<std::string> others;
    for (const Verb& other : Verbs()) {
      if (takes(other, flag)) others.push_back(other.name);
    }
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, ": is for ", absl::StrJoin(others, " and "), ", not for ", verb.name));
  }
  return absl::OkStatus();
}

absl::Status Checkpoint(const std::vector<std::string>& words, std::string* said_by) {
  std::vector<std::string> names;
  for (const Verb& verb : Verbs()) names.push_back(verb.name);
  if (words.empty()) {
    return absl::InvalidArgumentError("say what to do: " + absl::StrJoin(names, ", ") + "; `trefoil help checkpoint`");
  }
  for (const Verb& verb : Verbs()) {
    if (words[0] != verb.name) continue;
    TREFOIL_RETURN_IF_ERROR(CheckFlags(verb));
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
