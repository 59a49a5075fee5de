// When a run saves, and what happens when it cannot.
//
//   Saver saver(fs, world, worker, *folder, say);
//   for each step:
//     TrainStep(..., {.is_writing = [&] { return saver.is_writing(); }, .before_update = [&] { saver.BeforeUpdate(); }});
//     TREFOIL_RETURN_IF_ERROR(saver.AfterStep(step, result.writing));
//     if (saver.Due(step)) TREFOIL_RETURN_IF_ERROR(saver.Save(state, /*last=*/step == steps, begin));
//   saver.Finish();                                          // where the run ends otherwise
//
// With checkpoint.writing BACKGROUND a save before the last is begun between two steps and goes on beside the next: each
// rank's thread copies and writes (training/saving/background_writer.h), and between two steps, once the sums of a step
// have said that all have written, the ranks agree and commit. Training waits for what is between steps, and before an
// update for a copy that is not made: the save's stall. One is in flight at a time. One that comes due meanwhile is put
// off to the first step after it has ended; one that is to be kept for good (keep_every, the best evaluation) waits for
// it, and so does the last, which is in the foreground. What was begun is committed before the run ends, also where
// the run ends by an error that every rank has.
//
// A save that fails (full disk, an I/O error) does not end the run: what is in memory is good, and the checkpoints
// before are as they were. A warning says so, and the next try is after a tenth of checkpoint.every_steps, at least one
// step. checkpoint.failed_saves failures in a row end the run, as does the last save of a run, and at once the loss of
// the run folder to another job (runtime/files/folder_lock.h).
//
// With checkpoint.every_steps_in_memory the same is done for snapshots in the hosts' memory, on the steps in between: one
// that comes due while another save is in flight is left out. A snapshot that fails is warned about, and ends nothing. They
// are removed once the run has saved its last checkpoint.
//
// Old checkpoints, but for the one of the best evaluation (training/early_stop.h), are removed by a thread of who leads
// (checkpoint/storage.h) while training goes on, and while the next save is written; the one after that waits for it. Where
// there is no room on disk for that next one besides, it waits too.
//
// Threads: the rank's main thread. Every rank makes the same calls and gets the same Status.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <ostream>
#include <thread>
#include <utility>
#include <vector>

#include "checkpoint/directory.h"
#include "training/run_folder.h"
#include "training/saving/background_writer.h"
#include "training/saving/resume.h"
#include "training/saving/save_figures.h"

namespace trefoil {

class Saver {
 public:
  using Clock = std::chrono::steady_clock;

  // All must outlive it. `say`: rank 0's lines to people; elsewhere a sink. Takes the second buffer if the config needs
  // one.
  Saver(FileSystem& fs, World& world, Worker& worker, RunFolder& folder, std::ostream& say);
  // Waits for what is being removed or written. What is in flight is not committed.
  ~Saver();

  // For TrainStep's hooks: whether this rank still writes; before the state changes, which returns the seconds waited.
  bool is_writing() const { return writer_ != nullptr && writer_->writing(); }
  double BeforeUpdate();
  // Commits what is in flight unless some rank still writes, as of the sums of `step`.
  absl::Status AfterStep(int64_t step, bool some_rank_writes);

  // Whether, and to where, to save after `step`, by the config or to try again. Not, and said, if it is put off.
  enum class To { kDisk, kMemory };
  std::optional<To> Due(int64_t step);
  // Saves, or begins to, unless the newest checkpoint is of this step. `last`: there will be no other try, and the
  // checkpoint is complete on return. `begin`: since when training waits for it.
  absl::Status Save(const TrainerState& state, bool last, Clock::time_point begin);
  // Begins a snapshot in memory; nothing is in flight.
  absl::Status SaveInMemory(const TrainerState& state, Clock::time_point begin) { return Begin(state, To::kMemory, begin); }
  // Where the run ends without a last save: waits for what is in flight, and commits it.
  absl::Status Finish();

  // The state is that of the checkpoint of this step.
  void StartedFrom(int64_t step) { saved_step_ = step; }
  // The step of the newest checkpoint that this run saved or started from; 0: none.
  int64_t saved_step() const { return saved_step_; }
  // Of what has been completed since the last call.
  std::vector<SaveFigures> TakeFigures() { return std::exchange(figures_, {}); }

 private:
  struct InFlight {
    TrainerState state;
    To to = To::kDisk;
    double stall_seconds = 0;
    bool put_off = false;  // another
  };
  enum class NextTry { kLater, kNow, kNone };

  CheckpointContent ContentOf(const TrainerState& state);
  const CheckpointStorage& StorageFor(To to) const;
  absl::Status Begin(const TrainerState& state, To to, Clock::time_point begin);
  absl::Status Commit(int64_t step, NextTry next);
  absl::Status SaveInForeground(const TrainerState& state, bool last, Clock::time_point begin);
  void Saved(const TrainerState& state, const SaveFigures& figures, bool background);
  void SavedInMemory(const SaveFigures& figures);
  // Warns that a snapshot in memory was not taken; the next one comes as if it had been.
  void FailedInMemory(int64_t step, const absl::Status& status);
  // Warns, or is the error that ends the run, as it is if there is no other try.
  absl::Status Failed(int64_t saved, int64_t step, const absl::Status& status, NextTry next);
  bool IsKept(int64_t step) const;
  void RemoveOld();
  // Before a save: room for it, if what is to be removed makes some.
  void MakeRoom();
  void RemoveSnapshots();
  void Join();

  FileSystem& fs_;
  Worker& worker_;
  RunFolder& folder_;
  std::ostream& say_;
  int64_t saved_step_ = 0, retry_step_ = -1;
  int failures_ = 0;  // in a row
  std::unique_ptr<BackgroundWriter> writer_;  // null: all saves are in the foreground
  std::optional<InFlight> in_flight_;
  bool put_off_ = false;
  std::vector<SaveFigures> figures_;
  bool failing_in_memory_ = false;
  // What is to be removed once nothing begins: what is older than the step.
  struct Removal {
    std::string folder;
    int64_t step;
    KeepPolicy keep;
  };
  std::optional<Removal> remove_;
  std::thread removing_;
};

}  // namespace trefoil
