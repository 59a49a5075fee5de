#include "runtime/files/folder_lock.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <glog/logging.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

namespace trefoil {
namespace {

// A dead owner's successor that died while taking over leaves a name of its own, and so on.
constexpr int kDepth = 8;
constexpr int kAttempts = 100;

struct Owner {
  std::string id, host, job, since;
  std::string machine;  // where `process` is a number: the running kernel and its namespace of process numbers
  int64_t process = 0, process_start = 0, restarts = 0;
};

std::string FirstVariable(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return value;
  }
  return "";
}

std::string FirstLine(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

// When a process started, in ticks since the machine's start: field 22 of its stat. 0 if there is none.
int64_t StartOf(int64_t process) {
  const std::string line = FirstLine(absl::StrCat("/proc/", process, "/stat"));
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_end + 1));
  std::string field;
  for (int i = 3; i < 22; ++i) fields >> field;
  int64_t start = 0;
  fields >> start;
  return start;
}

std::string Machine() {
  char space[64] = {};
  const ssize_t length = readlink("/proc/self/ns/pid", space, sizeof(space) - 1);
  const std::string boot = FirstLine("/proc/sys/kernel/random/boot_id");
  return boot.empty() || length <= 0 ? "" : boot + " " + space;
}

Owner ThisProcess(const std::string& id) {
  char host[256] = {}, since[32] = {};
  gethostname(host, sizeof(host) - 1);
  const std::time_t now = std::time(nullptr);
  std::tm utc;
  std::strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&now, &utc));
  return {.id = id,
          .host = host,
          .job = FirstVariable({"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"}),
          .since = since,
          .machine = Machine(),
          .process = getpid(),
          .process_start = StartOf(getpid()),
          .restarts = std::atoll(FirstVariable({"SLURM_RESTART_COUNT"}).c_str())};
}

std::string NewId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x", random(), random());
}

std::string Encode(const Owner& owner) {
  const nlohmann::json json = {{"id", owner.id},           {"host", owner.host},
                               {"process", owner.process}, {"job", owner.job},
                               {"since", owner.since},     {"restarts", owner.restarts},
                               {"machine", owner.machine}, {"process_start", owner.process_start}};
  return json.dump() + "\n";
}

absl::StatusOr<Owner> ReadOwner(FileSystem& fs, const std::string& path) {
  TREFOIL_ASSIGN_OR_RETURN(const std::string content, ReadFile(fs, path));
  const nlohmann::json json = nlohmann::json::parse(content, nullptr, /*allow_exceptions=*/false);
  const auto text = [&](const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : "unknown";
  };
  const auto number = [&](const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_number() ? json[key].get<int64_t>() : 0;
  };
  return Owner{.id = text("id"),
               .host = text("host"),
               .job = text("job"),
               .since = text("since"),
               .machine = text("machine"),
               .process = number("process"),
               .process_start = number("process_start"),
               .restarts = number("restarts")};
}

std::string Describe(const Owner& owner) {
  return absl::StrCat("host ", owner.host, ", process ", owner.process, owner.job.empty() ? "" : ", job " + owner.job,
                      ", since ", owner.since);
}

bool OnThisMachine(const Owner& owner) { return !owner.machine.empty() && owner.machine == Machine(); }

// Why the owner must be dead, whatever its heartbeat; empty if it may live.
std::string WhyDead(const Owner& owner) {
  const Owner self = ThisProcess("");
  if (OnThisMachine(owner)) {
    const bool there = kill(static_cast<pid_t>(owner.process), 0) == 0 || errno == EPERM;
    return there && StartOf(owner.process) == owner.process_start ? "" : "that process is gone";
  }
  const bool earlier = !owner.job.empty() && owner.job == self.job && owner.restarts < self.restarts;
  return earlier ? "an earlier start of this job" : "";
}

}  // namespace

FolderLock::FolderLock(FileSystem& fs, std::string folder, const FolderLockTimes& times)
    : fs_(fs), folder_(std::move(folder)), times_(times), id_(NewId()) {}

absl::StatusOr<std::unique_ptr<FolderLock>> FolderLock::Take(FileSystem& fs, const std::string& folder,
                                                             const FolderLockTimes& times) {
  std::unique_ptr<FolderLock> lock(new FolderLock(fs, folder, times));
  const absl::Status status = lock->TakeName(lock->Path(), 0);
  fs.Remove(lock->Candidate()).IgnoreError();
  TREFOIL_RETURN_IF_ERROR(status);
  lock->taken_ = true;
  lock->RemoveStrays();
  lock->heart_ = std::thread([&lock = *lock] { lock.Beat(); });
  return lock;
}

FolderLock::~FolderLock() {
  if (!taken_) return;
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  heart_.join();
  if (const absl::Status status = GiveBack(); !status.ok()) {
    LOG(WARNING) << "cannot give back " << Path() << ": " << status.message();
  }
}

absl::Status FolderLock::WriteCandidate() {
  TREFOIL_ASSIGN_OR_RETURN(const auto file, fs_.Create(Candidate()));
  const std::string text = Encode(ThisProcess(id_));
  TREFOIL_RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(text))));
  return file->Close();
}

absl::Status FolderLock::TakeName(const std::string& name, int depth) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    TREFOIL_RETURN_IF_ERROR(WriteCandidate());
    const absl::Status status = fs_.RenameIfFree(Candidate(), name);
    if (status.ok()) return status;
    if (absl::IsNotFound(status)) continue;  // tidied away as old, while this process was stopped
    if (!absl::IsAlreadyExists(status)) return status;
    const auto owner = ReadOwner(fs_, name);
    if (absl::IsNotFound(owner.status())) continue;  // given back in between
    TREFOIL_RETURN_IF_ERROR(owner.status());
    const auto beat = fs_.ModifiedSeconds(name), now = fs_.ModifiedSeconds(Candidate());
    if (absl::IsNotFound(beat.status())) continue;
    TREFOIL_RETURN_IF_ERROR(beat.status());
    TREFOIL_RETURN_IF_ERROR(now.status());
    const double silence = std::max(0.0, *now - *beat), ahead = *beat - *now;
    std::string dead = WhyDead(*owner);
    if (dead.empty() && depth < kDepth && silence > times_.dead_seconds && !OnThisMachine(*owner)) {
      if (BeatsAfter(name, *beat)) continue;  // the clock was set forward
      dead = absl::StrFormat("no heartbeat for %.0f s", silence);
    }
    if (dead.empty() || depth == kDepth) {
      const bool set_back = ahead > times_.heartbeat_seconds;
      if (set_back) fs_.Touch(name).IgnoreError();
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s is in use by %s, last heartbeat %.0f s %s (%s); wait for it to end, end it, or use another folder%s",
          folder_, Describe(*owner), set_back ? ahead : silence,
          set_back ? "from now, by a clock that was set back since" : "ago", name,
          OnThisMachine(*owner)
              ? ""
              : absl::StrFormat("; if it is dead, start again in %.0f s", times_.dead_seconds - silence + 1)));
    }
    // Whoever has this second name is the only one that may replace that owner's lock, the owner itself included.
    const std::string after = name + ".after-" + owner->id;
    TREFOIL_RETURN_IF_ERROR(TakeName(after, depth + 1));
    const auto still = ReadOwner(fs_, name);
    if (still.ok() && still->id == owner->id) {
      if (const absl::Status moved = fs_.Rename(after, name); !absl::IsNotFound(moved)) {
        took_over_ = absl::StrCat("Took ", folder_, " over from ", Describe(*owner), ": ", dead);
        return moved;
      }
      continue;  // this process was stopped for so long that another has taken over from it
    }
    TREFOIL_RETURN_IF_ERROR(fs_.Remove(after));
  }
  return absl::UnavailableError(Path() + ": taken and given back too often while this process tried to take it");
}

bool FolderLock::BeatsAfter(const std::string& name, double beat) {
  using Clock = std::chrono::steady_clock;
  const auto part = [this](double periods) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(periods * times_.heartbeat_seconds));
  };
  for (const Clock::time_point end = Clock::now() + part(2.5); Clock::now() < end;) {
    std::this_thread::sleep_for(part(0.1));
    const auto opened = fs_.Open(name);  // so that a client of a network file system asks again
    const auto later = fs_.ModifiedSeconds(name);
    if (!opened.ok() || !later.ok() || *later != beat) return true;
  }
  return false;
}

absl::Status FolderLock::GiveBack() {
  // By the rule of TakeName, so that a lock that another is taking over is not removed under its hands.
  const std::string after = Path() + ".after-" + id_;
  const auto mine = OwnedBy(fs_, folder_, id_);
  if (absl::IsNotFound(mine.status()) || (mine.ok() && !*mine)) return absl::OkStatus();
  TREFOIL_RETURN_IF_ERROR(mine.status());
  WriteCandidate().IgnoreError();  // its name is what counts for so short a time, and a full disk must not keep the lock
  absl::Status status = fs_.RenameIfFree(Candidate(), after);
  if (absl::IsAlreadyExists(status)) return fs_.Remove(Candidate());
  TREFOIL_RETURN_IF_ERROR(status);
  if (const auto still = OwnedBy(fs_, folder_, id_); still.ok() && *still) status = fs_.Remove(Path());
  const absl::Status removed = fs_.Remove(after);
  return status.ok() ? removed : status;
}

void FolderLock::RemoveStrays() {
  const auto names = fs_.List(folder_);
  const auto now = fs_.ModifiedSeconds(Path());
  if (!names.ok() || !now.ok()) return;
  for (const std::string& name : *names) {
    if (!name.starts_with("lock.")) continue;
    const auto then = fs_.ModifiedSeconds(folder_ + "/" + name);
    if (then.ok() && *now - *then > times_.dead_seconds) fs_.Remove(folder_ + "/" + name).IgnoreError();
  }
}

absl::Status FolderLock::Check() {
  const auto owner = ReadOwner(fs_, Path());
  if (absl::IsNotFound(owner.status())) {
    LOG(WARNING) << Path() << " was removed; made again";
    return TakeName(Path(), kDepth);
  }
  TREFOIL_RETURN_IF_ERROR(owner.status());
  if (owner->id == id_) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(folder_, " has been taken over by ", Describe(*owner), " (", Path(),
                                                    "); this process writes nothing more into it"));
}

void FolderLock::Beat() {
  std::unique_lock lock(mutex_);
  const auto period = std::chrono::duration<double>(times_.heartbeat_seconds);
  bool warned = false;
  while (!wake_.wait_for(lock, period, [this] { return stop_; })) {
    lock.unlock();
    // Another's lock is not kept alive by this process.
    const auto mine = OwnedBy(fs_, folder_, id_);
    const absl::Status status = !mine.ok() ? mine.status() : *mine ? fs_.Touch(Path()) : absl::OkStatus();
    if (!status.ok() && !warned) LOG(WARNING) << "no heartbeat: " << status.message();
    warned = !status.ok();
    lock.lock();
  }
}

absl::StatusOr<std::string> FolderOwner(FileSystem& fs, const std::string& folder) {
  TREFOIL_ASSIGN_OR_RETURN(const Owner owner, ReadOwner(fs, folder + "/lock"));
  const std::string dead = WhyDead(owner);
  return Describe(owner) + (dead.empty() ? "" : " (" + dead + ": the next start takes the folder over)");
}

absl::StatusOr<bool> OwnedBy(FileSystem& fs, const std::string& folder, const std::string& id) {
  TREFOIL_ASSIGN_OR_RETURN(const Owner owner, ReadOwner(fs, folder + "/lock"));
  return owner.id == id;
}

}  // namespace trefoil
