#include "launcher/checkpoints/verify.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <vector>

#include "launcher/checkpoints/find.h"
#include "launcher/report/progress.h"
#include "runtime/host/cpu_features.h"
#include "runtime/number_text.h"

namespace trefoil {
namespace {

constexpr int kMostThreads = 8;
constexpr size_t kLinesShown = 20;

}  // namespace

Verified VerifyWithProgress(FileSystem& fs, const std::string& checkpoint) {
  ProgressBar bar("reading", CheckpointBytesOnDisk(fs, checkpoint).value_or(0), /*workers=*/1);
  const VerifyOptions options = {.threads = std::min(CoresAllowed(), kMostThreads),
                                 .progress = [&](int64_t bytes) { bar.Add(bytes); }};
  Verified verified = VerifyCheckpoint(fs, checkpoint, options);
  bar.Finish();
  return verified;
}

std::vector<std::string> DamageLines(const Verified& verified) {
  std::vector<std::string> lines = verified.damage;
  if (lines.size() <= kLinesShown + 1) return lines;
  lines.resize(kLinesShown);
  lines.push_back(absl::StrCat("... and ", verified.damage.size() - kLinesShown, " more"));
  return lines;
}

absl::Status VerifyNamed(FileSystem& fs, const std::string& path, std::optional<int64_t> step, std::ostream& out) {
  TREFOIL_ASSIGN_OR_RETURN(const FoundCheckpoints found, FindFolders(fs, path));
  std::vector<CheckpointFolder> folders;
  std::vector<std::string> steps;
  for (auto it = found.folders.rbegin(); it != found.folders.rend(); ++it) {
    if (it->kind != CheckpointFolder::kComplete && !found.one) continue;
    steps.push_back(absl::StrCat(it->step));
    if (!step || it->step == *step) folders.push_back(*it);
  }
  if (folders.empty() && step) {
    return absl::NotFoundError(absl::StrCat(path, ": no complete checkpoint of step ", *step,
                                            steps.empty() ? "" : "; there are " + absl::StrJoin(steps, ", ")));
  }
  if (folders.empty()) return absl::NotFoundError(path + ": no complete checkpoint");
  std::vector<std::string> damaged;
  for (const CheckpointFolder& folder : folders) {
    const Verified verified = VerifyWithProgress(fs, folder.path);
    out << absl::StrFormat("step %-8d  %s", folder.step, verified.whole() ? "whole    " : "damaged  ")
        << BytesText(verified.bytes) << " as written" << std::endl;
    for (const std::string& line : DamageLines(verified)) out << "  " << line << std::endl;
    if (!verified.whole()) damaged.push_back(folder.path);
  }
  if (damaged.empty()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(damaged.size(), " of ", folders.size(),
                                          folders.size() == 1 ? " checkpoint is damaged: " : " checkpoints are damaged: ",
                                          absl::StrJoin(damaged, ", ")));
}

}  // namespace trefoil
