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

// `field`: of the config that names the folder. What `lock` was taken over from goes to `notes`.
absl::Status MakeAndLock(FileSystem& fs, const std::string& field, const std::string& path,
                         std::unique_ptr<FolderLock>* lock, std::vector<std::string>* notes) {
  if (const absl::Status made = MakeFolderDurably(fs, path); !made.ok()) {
    return absl::Status(made.code(), absl::StrCat(field, ": ", path, " cannot be made: ", made.message()));
  }
  auto taken = FolderLock::Take(fs, path);
  if (!taken.ok()) {
    return absl::Status(taken.status().code(), absl::StrCat(field, ": ", taken.status().message()));
  }
  *lock = *std::move(taken);
  if (!(*lock)->took_over().empty()) notes->push_back((*lock)->took_over() + ".");
  return absl::OkStatus();
}

// Of who leads on its host.
absl::Status LockOfHost(FileSystem& fs, const std::string& field, const std::string& path,
                        std::unique_ptr<FolderLock>* lock, std::vector<std::string>* notes) {
  const absl::Status status = MakeAndLock(fs, field, path, lock, notes);
  if (!absl::IsFailedPrecondition(status)) return status;
  return absl::Status(status.code(), absl::StrCat(status.message(),
                                                  "; if that is this job, its hosts share the folder, and must each have "
                                                  "one of their own: give another, or leave it out"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunFolder>> RunFolder::Take(FileSystem& fs, const std::string& path,
                                                           const RunStorage& storage, Group& all,
                                                           std::vector<std::string>* notes) {
  std::unique_ptr<RunFolder> folder(new RunFolder(fs, storage));
  const bool first = all.rank() == 0;
  absl::Status status = first ? MakeAndLock(fs, "folder", path, &folder->lock_, notes) : absl::OkStatus();
  TREFOIL_RETURN_IF_ERROR(all.Agree(status));
  folder->owner_ = all.BroadcastString(first ? folder->lock_->id() : "");
  const auto lock_on_hosts = [&](const char* field, const CheckpointStorage& on_hosts) {
    absl::Status locked;
    if (on_hosts.Leads(all)) locked = LockOfHost(fs, field, on_hosts.folder, &folder->host_locks_.emplace_back(), notes);
    return all.Agree(locked);
  };
  if (storage.memory.has_value()) {
    TREFOIL_RETURN_IF_ERROR(lock_on_hosts("training.checkpoint.memory_folder", *storage.memory));
  }
  if (storage.disk.of_hosts) {
    TREFOIL_RETURN_IF_ERROR(lock_on_hosts("training.checkpoint.folder", storage.disk));
    return folder;
  }
  const std::string shared = all.BroadcastString(path);
  TREFOIL_RETURN_IF_ERROR(all.Agree(CheckSeen(fs, shared, folder->owner_)));
  return folder;
}

absl::Status RunFolder::Check() {
  if (lock_ != nullptr) TREFOIL_RETURN_IF_ERROR(lock_->Check());
  for (const auto& lock : host_locks_) TREFOIL_RETURN_IF_ERROR(lock->Check());
  return absl::OkStatus();
}

RunFolder::~RunFolder() {
  if (!storage_.memory.has_value() || host_locks_.empty()) return;
  host_locks_.clear();
  // Nothing is left of a run that has ended.
  const auto left = fs_.List(storage_.memory->folder);
  if (left.ok() && left->empty()) fs_.Remove(storage_.memory->folder).IgnoreError();
}

}  // namespace trefoil
