#include "training/run_folder.h"

#include <absl/strings/str_cat.h>

#include <chrono>
#include <thread>

namespace trefoil {
namespace {

// A client of a network file system may believe for so long that a new name does not exist.
constexpr std::chrono::seconds kPatience(5);

// That this rank sees the folder with rank 0's lock in it.
absl::Status CheckSeen(FileSystem& fs, const std::string& path, const std::string& owner) {
  absl::StatusOr<bool> seen = OwnedBy(fs, path, owner);
  for (const auto end = std::chrono::steady_clock::now() + kPatience;
       absl::IsNotFound(seen.status()) && std::chrono::steady_clock::now() < end;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    seen = OwnedBy(fs, path, owner);
  }
  if (seen.ok() && *seen) return absl::OkStatus();
  return absl::Status(
      seen.ok() ? absl::StatusCode::kFailedPrecondition : seen.status().code(),
      absl::StrCat("folder: this rank does not see the folder ", path, " that rank 0 has taken (",
                   seen.ok() ? "there is another run's lock" : std::string(seen.status().message()),
                   "): all hosts must share it; give a folder on a shared file system"));
}

absl::StatusOr<std::unique_ptr<FolderLock>> MakeAndLock(FileSystem& fs, const std::string& path) {
  if (const absl::Status made = MakeFolderDurably(fs, path); !made.ok()) {
    return absl::Status(made.code(), absl::StrCat("folder: ", path, " cannot be made: ", made.message()));
  }
  auto lock = FolderLock::Take(fs, path);
  if (lock.ok()) return lock;
  return absl::Status(lock.status().code(), absl::StrCat("folder: ", lock.status().message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunFolder>> RunFolder::Take(FileSystem& fs, const std::string& path, Group& all,
                                                           std::vector<std::string>* notes) {
  std::unique_ptr<RunFolder> folder(new RunFolder);
  absl::Status status;
  if (all.rank() == 0) {
    auto lock = MakeAndLock(fs, path);
    status = lock.status();
    if (lock.ok()) folder->lock_ = std::move(*lock);
  }
  TREFOIL_RETURN_IF_ERROR(all.Agree(status));
  const bool first = folder->lock_ != nullptr;
  if (first && !folder->lock_->took_over().empty()) notes->push_back(folder->lock_->took_over() + ".");
  folder->owner_ = all.BroadcastString(first ? folder->lock_->id() : "");
  const std::string shared = all.BroadcastString(path);
  TREFOIL_RETURN_IF_ERROR(all.Agree(CheckSeen(fs, shared, folder->owner_)));
  return folder;
}

}  // namespace trefoil
