// One owner of a folder at a time, over processes and hosts: a lock file with who has it and a heartbeat.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<FolderLock> lock, FolderLock::Take(fs, "runs/a"));
//   if (!lock->took_over().empty()) std::cout << lock->took_over() << "\n";    // a dead owner's lock lay there
//   ... write into runs/a, under names that bear lock->id() while they are unfinished ...
//   TREFOIL_RETURN_IF_ERROR(lock->Check());                                    // before what must not be done twice
//   lock.reset();                                                              // gives it back
//
// In a job one rank takes it (rank 0), before anything is written in the folder, and tells the others the outcome. The
// folder must exist and be one that all who might write see: on a file system shared by the hosts.
//
// FOLDER/lock is JSON: id (random, of this Take), host, process, job (of Slurm, PBS or LSF, if any), since. Its time of
// modification is the heartbeat: a thread touches it every 10 s. While it is there, Take is refused with one line
//
//   runs/a is in use by host n1, process 4711, job 99, since 2026-11-26 14:17:00 UTC, last heartbeat 3 s ago
//   (runs/a/lock); wait for it to end, end it, or use another folder
//
// unless its owner is dead, when the lock is taken over. Dead is
// - on this machine: no process of that number that started at that time;
// - an earlier start of the same Slurm job (SLURM_RESTART_COUNT is higher here): Slurm has given it up;
// - elsewhere: no heartbeat for 120 s, by the clock of the file system, so that hosts' clocks need not agree; and none
//   either while this process looks on for two and a half heartbeats, by its own steady clock. So a clock that is set
//   forward kills nobody. One that was set back leaves a heartbeat that is still to come, which would pass for life
//   until then: who is refused by it makes it one of now, and 120 s later it counts.
// An owner that was only cut off or stopped for so long, and comes back, finds out by Check. It may still finish what it
// is in the middle of, so what it writes then must not carry names that the new owner uses: hence id().
//
// Two that start at once: the lock's name is given by an operation of which one succeeds (RenameIfFree), whether the
// lock was free or is taken over, so exactly one has it. Nothing waits but for the 25 s before an owner elsewhere is
// declared dead, and no more than a few small files are written.
//
// Failure: FailedPrecondition if another owns the folder; else what the file system said.
// Threads: one at a time per object. Processes that die leave the lock; it is no hindrance to their next start.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct FolderLockTimes {
  double heartbeat_seconds = 10;
  double dead_seconds = 120;
};

class FolderLock {
 public:
  // `fs` must outlive the lock.
  static absl::StatusOr<std::unique_ptr<FolderLock>> Take(FileSystem& fs, const std::string& folder,
                                                          const FolderLockTimes& times = {});
  // Gives the folder back, unless another has it.
  ~FolderLock();

  // Sixteen hexadecimal digits.
  const std::string& id() const { return id_; }
  // "Took runs/a over from host n1, process 4711, since ...: that process is gone"; empty if the folder was free.
  const std::string& took_over() const { return took_over_; }
  // FailedPrecondition if another has taken the folder over: whoever gets this writes nothing more into it. A lock file
  // that somebody has removed by hand is made again.
  absl::Status Check();

 private:
  FolderLock(FileSystem& fs, std::string folder, const FolderLockTimes& times);
  std::string Path() const { return folder_ + "/lock"; }
  // A file of this owner's beside the lock, yet to be given its name.
  std::string Candidate() const { return Path() + "." + id_; }
  absl::Status WriteCandidate();
  // Gives this owner's file the name: as a free one, or after its dead owner.
  absl::Status TakeName(const std::string& name, int depth);
  // Whether there comes a heartbeat after that of `beat`, or anything else happens to the lock of this name.
  bool BeatsAfter(const std::string& name, double beat);
  absl::Status GiveBack();
  void RemoveStrays();
  void Beat();

  FileSystem& fs_;
  const std::string folder_;
  const FolderLockTimes times_;
  std::string id_;
  std::string took_over_;
  bool taken_ = false;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread heart_;
};

// The owner that FOLDER/lock names, for people: "host n1, process 4711, job 99, since 2026-11-26 14:17:00 UTC", and
// that it is dead where that is certain without its heartbeat; NotFound if nobody owns it.
absl::StatusOr<std::string> FolderOwner(FileSystem& fs, const std::string& folder);
// Whether the lock is that of the owner `id`, as this process sees the folder.
absl::StatusOr<bool> OwnedBy(FileSystem& fs, const std::string& folder, const std::string& id);

}  // namespace trefoil
