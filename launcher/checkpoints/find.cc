#include "launcher/checkpoints/find.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "checkpoint/reader.h"
#include "training/saving/newest_checkpoint.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

constexpr char kCheckpoints[] = "checkpoints";

std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Of a folder of checkpoints; empty: not known.
std::string RunOf(FileSystem& fs, const std::string& folder) {
  if (NameOf(folder) == kCheckpoints) return FolderOf(folder);
  return fs.Exists(folder + "/../config.pbtxt") ? folder + "/.." : "";
}

// The one at `path`, if that is one.
absl::StatusOr<std::optional<FoundCheckpoints>> FindOne(FileSystem& fs, const std::string& path) {
  const auto beside = ListCheckpoints(fs, FolderOf(path));
  if (beside.ok()) {
    for (const CheckpointFolder& folder : *beside) {
      if (NameOf(folder.path) != NameOf(path)) continue;
      const std::string checkpoints = FolderOf(path);
      return FoundCheckpoints{.run = RunOf(fs, checkpoints), .folder = checkpoints, .one = true, .folders = {folder}};
    }
  }
  if (!fs.Exists(path + "/manifest.json")) return std::nullopt;
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, path));
  const CheckpointFolder folder = {.kind = CheckpointFolder::kComplete, .step = reader.step(), .path = path};
  return FoundCheckpoints{.run = "", .folder = path, .one = true, .folders = {folder}};
}

}  // namespace

std::vector<std::string> FoundCheckpoints::Complete() const {
  std::vector<std::string> paths;
  for (auto it = folders.rbegin(); it != folders.rend(); ++it) {
    if (it->kind == CheckpointFolder::kComplete) paths.push_back(it->path);
  }
  return paths;
}

int64_t FoundCheckpoints::NewestStep() const {
  int64_t newest = -1;
  for (const CheckpointFolder& folder : folders) {
    if (folder.kind == CheckpointFolder::kComplete) newest = folder.step;
  }
  return newest;
}

absl::StatusOr<FoundCheckpoints> FindFolders(FileSystem& fs, std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (!fs.Exists(path)) return absl::NotFoundError(path + " does not exist");
  TREFOIL_ASSIGN_OR_RETURN(std::optional<FoundCheckpoints> one, FindOne(fs, path));
  if (one) return *std::move(one);
  FoundCheckpoints found;
  const bool is_run = fs.Exists(path + "/" + kCheckpoints) || fs.Exists(path + "/config.pbtxt");
  found.folder = is_run ? CheckpointsOfRun(fs, path) : path;
  found.run = is_run ? path : RunOf(fs, path);
  absl::StatusOr<std::vector<CheckpointFolder>> folders = ListCheckpoints(fs, found.folder);
  if (absl::IsNotFound(folders.status())) folders = std::vector<CheckpointFolder>();  // of a run that has saved nothing
  TREFOIL_RETURN_IF_ERROR(folders.status());
  found.folders = *std::move(folders);
  if (found.folders.empty() && found.run.empty()) {
    return absl::NotFoundError(path + ": holds no checkpoint (a folder step-NNNNNNNN); give a run's folder, its folder " +
                               "checkpoints, or one of those in there");
  }
  return found;
}

int64_t BestHeldOut(FileSystem& fs, const FoundCheckpoints& found) {
  std::set<int64_t> steps;
  for (const CheckpointFolder& folder : found.folders) {
    if (folder.kind == CheckpointFolder::kComplete) steps.insert(folder.step);
  }
  if (const int64_t best = BestStep(fs, found.Complete()); best > 0) return steps.contains(best) ? best : 0;
  if (found.one) return 0;  // of the others nothing is known
  std::ifstream lines(found.run + "/metrics.jsonl");
  int64_t best = 0;
  double least = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("\"held_out_loss\"") == std::string::npos) continue;
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) continue;
    if (!json["held_out_loss"].is_number() || !steps.contains(json["step"].get<int64_t>())) continue;
    const double loss = json["held_out_loss"].get<double>();
    if (best != 0 && loss >= least) continue;
    best = json["step"].get<int64_t>();
    least = loss;
  }
  return best;
}

}  // namespace trefoil
