#include "tests/runtime/files/fault_file_system.h"

#include <algorithm>

namespace trefoil {
namespace {

absl::Status Dead(const std::string& path) { return absl::AbortedError(path + ": crashed (injected)"); }

// `path` after `from` has become `to`.
std::string AfterMove(const std::string& path, const std::string& from, const std::string& to) {
  const bool inside = path == from || path.starts_with(from + "/");
  return inside ? to + path.substr(from.size()) : path;
}

std::set<std::string> AfterMove(const std::set<std::string>& paths, const std::string& from, const std::string& to) {
  std::set<std::string> moved;
  for (const std::string& path : paths) moved.insert(AfterMove(path, from, to));
  return moved;
}

}  // namespace

class FaultFileSystem::File final : public WritableFile {
 public:
  File(FaultFileSystem& fs, std::string path, std::unique_ptr<WritableFile> base)
      : fs_(fs), path_(std::move(path)), base_(std::move(base)) {}

  absl::Status Append(std::span<const std::byte> bytes) override {
    const std::lock_guard lock(fs_.mutex_);
    const bool was_dead = fs_.crashed_;
    if (absl::Status status = fs_.CountCall("append", path_); !status.ok()) {
      if (!was_dead && fs_.crash_ == Crash::kKill) base_->Append(bytes.first(bytes.size() / 2)).IgnoreError();
      return status;
    }
    if (fs_.bytes_left_ >= 0 && static_cast<int64_t>(bytes.size()) > fs_.bytes_left_) {
      TREFOIL_RETURN_IF_ERROR(base_->Append(bytes.first(static_cast<size_t>(std::exchange(fs_.bytes_left_, 0)))));
      return absl::ResourceExhaustedError(path_ + ": no space left on device");
    }
    if (fs_.bytes_left_ >= 0) fs_.bytes_left_ -= static_cast<int64_t>(bytes.size());
    return base_->Append(bytes);
  }

  absl::Status Flush() override {
    const std::lock_guard lock(fs_.mutex_);
    TREFOIL_RETURN_IF_ERROR(fs_.CountCall("flush", path_));
    fs_.unflushed_[path_] = fs_.SizeOf(path_);
    return base_->Flush();
  }

  absl::Status Close() override {
    const std::lock_guard lock(fs_.mutex_);
    TREFOIL_RETURN_IF_ERROR(fs_.CountCall("close", path_));
    fs_.unflushed_.erase(path_);
    return base_->Close();
  }

 private:
  FaultFileSystem& fs_;
  const std::string path_;
  const std::unique_ptr<WritableFile> base_;
};

void FaultFileSystem::CrashAt(int64_t call, Crash crash) {
  const std::lock_guard lock(mutex_);
  crash_at_ = call;
  crash_ = crash;
}

void FaultFileSystem::CrashWhen(std::function<bool(const std::string&)> is_it, Crash crash) {
  const std::lock_guard lock(mutex_);
  crash_when_ = std::move(is_it);
  crash_ = crash;
}

void FaultFileSystem::FillAfter(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes_left_ = bytes;
}

bool FaultFileSystem::crashed() const {
  const std::lock_guard lock(mutex_);
  return crashed_;
}

int64_t FaultFileSystem::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

absl::Status FaultFileSystem::CountCall(const char* what, const std::string& path) {
  if (crashed_) return Dead(path);
  const bool named = crash_when_ && crash_when_(std::string(what) + " " + path);
  if (calls_++ != crash_at_ && !named) return absl::OkStatus();
  crashed_ = true;
  if (crash_ == Crash::kPowerCut) CutPower();
  return Dead(path);
}

void FaultFileSystem::CutPower() {
  for (const auto& [file, bytes] : unflushed_) {
    if (base_.Exists(file)) base_.Extend(file, bytes).status().IgnoreError();
  }
  for (; !changes_.empty(); changes_.pop_back()) {
    const Change change = changes_.back();
    if (change.unflushed.empty()) continue;
    if (change.from.empty()) {
      base_.Remove(change.to).IgnoreError();
      continue;
    }
    if (!base_.Exists(change.to)) continue;  // removed since
    base_.Rename(change.to, change.from).IgnoreError();
    if (change.before.has_value()) {
      auto file = base_.Create(change.to);
      if (file.ok()) (*file)->Append(std::as_bytes(std::span(*change.before))).IgnoreError();
    }
    Moved(change.to, change.from);
  }
}

void FaultFileSystem::Moved(const std::string& from, const std::string& to) {
  std::map<std::string, int64_t> unflushed;
  for (const auto& [file, bytes] : unflushed_) unflushed[AfterMove(file, from, to)] = bytes;
  unflushed_ = std::move(unflushed);
  for (Change& change : changes_) {
    change.from = AfterMove(change.from, from, to);
    change.to = AfterMove(change.to, from, to);
    change.unflushed = AfterMove(change.unflushed, from, to);
  }
}

absl::Status FaultFileSystem::CheckAlive(const std::string& path) const {
  return crashed_ ? Dead(path) : absl::OkStatus();
}

int64_t FaultFileSystem::SizeOf(const std::string& path) {
  const auto file = base_.Open(path);
  return file.ok() ? (*file)->size() : 0;
}

std::unique_ptr<WritableFile> FaultFileSystem::Opened(const std::string& path, bool is_new, int64_t flushed,
                                                      std::unique_ptr<WritableFile> base) {
  if (is_new) changes_.push_back({.from = "", .to = path, .before = std::nullopt, .unflushed = {FolderOf(path)}});
  const auto known = unflushed_.find(path);
  unflushed_[path] = known == unflushed_.end() ? flushed : std::min(flushed, known->second);
  return std::make_unique<File>(*this, path, std::move(base));
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFileSystem::Create(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CountCall("create", path));
  const bool is_new = !base_.Exists(path);
  TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> base, base_.Create(path));
  return Opened(path, is_new, /*flushed=*/0, std::move(base));
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFileSystem::Extend(const std::string& path, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CountCall("extend", path));
  const bool is_new = !base_.Exists(path);
  TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> base, base_.Extend(path, bytes));
  return Opened(path, is_new, /*flushed=*/SizeOf(path), std::move(base));
}

absl::StatusOr<std::unique_ptr<ReadableFile>> FaultFileSystem::Open(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CheckAlive(path));
  return base_.Open(path);
}

absl::Status FaultFileSystem::Renamed(const std::string& from, const std::string& to, const absl::Status& done,
                                      std::optional<std::string> before) {
  TREFOIL_RETURN_IF_ERROR(done);
  Moved(from, to);
  changes_.push_back(
      {.from = from, .to = to, .before = std::move(before), .unflushed = {FolderOf(from), FolderOf(to)}});
  return absl::OkStatus();
}

absl::Status FaultFileSystem::Rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CountCall("rename", from));
  const auto before = ReadFile(base_, to);
  return Renamed(from, to, base_.Rename(from, to), before.ok() ? std::optional(*before) : std::nullopt);
}

absl::Status FaultFileSystem::RenameIfFree(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CountCall("rename", from));
  return Renamed(from, to, base_.RenameIfFree(from, to), std::nullopt);
}

absl::Status FaultFileSystem::MakeFolder(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CountCall("make", path));
  std::vector<std::string> made;  // upper first
  for (std::string folder = path; !base_.Exists(folder); folder = FolderOf(folder)) made.insert(made.begin(), folder);
  TREFOIL_RETURN_IF_ERROR(base_.MakeFolder(path));
  for (const std::string& folder : made) {
    changes_.push_back({.from = "", .to = folder, .before = std::nullopt, .unflushed = {FolderOf(folder)}});
  }
  return absl::OkStatus();
}

absl::Status FaultFileSystem::FlushFolder(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CountCall("flush", path));
  for (Change& change : changes_) change.unflushed.erase(path);
  std::erase_if(changes_, [](const Change& change) { return change.unflushed.empty(); });
  return base_.FlushFolder(path);
}

absl::Status FaultFileSystem::Remove(const std::string& path) {
  if (!Exists(path)) {
    const std::lock_guard lock(mutex_);
    return CheckAlive(path);
  }
  if (const auto names = List(path); names.ok()) {
    for (const std::string& name : *names) TREFOIL_RETURN_IF_ERROR(Remove(path + "/" + name));
  }
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CountCall("remove", path));
  unflushed_.erase(path);
  std::erase_if(changes_, [&](const Change& change) { return change.to == path; });
  return base_.Remove(path);
}

bool FaultFileSystem::Exists(const std::string& path) {
  const std::lock_guard lock(mutex_);
  return !crashed_ && base_.Exists(path);
}

absl::StatusOr<std::vector<std::string>> FaultFileSystem::List(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CheckAlive(path));
  return base_.List(path);
}

absl::StatusOr<double> FaultFileSystem::ModifiedSeconds(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CheckAlive(path));
  return base_.ModifiedSeconds(path);
}

absl::Status FaultFileSystem::Touch(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CheckAlive(path));
  return base_.Touch(path);
}

absl::StatusOr<int64_t> FaultFileSystem::FreeBytes(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TREFOIL_RETURN_IF_ERROR(CheckAlive(path));
  return base_.FreeBytes(path);
}

}  // namespace trefoil
