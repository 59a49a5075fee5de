// When a run saves, and what happens when it cannot.
//
//   Saver saver(fs, worker, *folder, say);
//   for each step:
//     if (saver.Due(step)) TREFOIL_RETURN_IF_ERROR(saver.Save(state, /*last=*/step == steps));
//
// A save that fails (full disk, an I/O error) does not end the run: what is in memory is good, and the checkpoints
// before are as they were. A warning says so, and the next try is after a tenth of checkpoint.every_steps, at least one
// step. checkpoint.failed_saves failures in a row end the run, as does the last save of a run, and at once the loss of
// the run folder to another job (runtime/files/folder_lock.h).
//
// Old checkpoints, but for the one of the best evaluation (training/early_stop.h), are removed by a thread of rank 0
// while training goes on; the next save waits for it.
//
// Threads: the rank's main thread. Every rank makes the same calls and gets the same Status.
#pragma once

#include <ostream>
#include <thread>

#include "training/run_folder.h"
#include "training/saving/resume.h"

namespace trefoil {

class Saver {
 public:
  // All must outlive it. `say`: rank 0's lines to people; elsewhere a sink.
  Saver(FileSystem& fs, Worker& worker, RunFolder& folder, std::ostream& say);
  // Waits for what is being removed.
  ~Saver();

  // Whether to save after `step`, by the config or to try again.
  bool Due(int64_t step) const;
  // Saves unless the newest checkpoint is of this step. `last`: there will be no other try.
  absl::Status Save(const TrainerState& state, bool last);
  // The state is that of the checkpoint of this step.
  void StartedFrom(int64_t step) { saved_step_ = step; }
  // The step of the newest checkpoint that this run saved or started from; 0: none.
  int64_t saved_step() const { return saved_step_; }

 private:
  void RemoveOld(int64_t best_step);
  void Join();

  FileSystem& fs_;
  Worker& worker_;
  RunFolder& folder_;
  std::ostream& say_;
  int64_t saved_step_ = 0, retry_step_ = -1;
  int failures_ = 0;  // in a row
  std::thread removing_;
};

}  // namespace trefoil
