// This rank's half of a save, on a thread: copies the state, then writes the copy to the rank's file, and sends it to other
// hosts where they keep copies (checkpoint/storage.h).
//
//   BackgroundWriter writer(fs, world, worker, 2);        // takes the second buffer
//   writer.Start(storage, folder);                        // after the folder was made (checkpoint/writer.h, BeginSave)
//   ...                                                   // the next step computes
//   writer.WaitCopied();                                  // before its update
//   if (!writer.writing()) written = writer.Take();       // then the ranks agree (FinishSave)
//
// The copy is made on the thread too, beside the next step's forward and backward, which read the state and do not change
// it: on GPUs by a queue of its own. So training waits for a copy only where it takes longer than these (docs/performance.md).
//
// Threads: all functions from the rank's main thread.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "checkpoint/rank_part.h"
#include "checkpoint/storage.h"
#include "parallel/collectives/world.h"
#include "parallel/task_queue.h"
#include "training/saving/state_snapshot.h"
#include "training/worker.h"

namespace trefoil {

class BackgroundWriter {
 public:
  // All outlive it. most_copies: of what is written.
  BackgroundWriter(FileSystem& fs, World& world, Worker& worker, int most_copies);
  // Waits for what its thread is doing.
  ~BackgroundWriter() = default;

  // Of the state as the main thread's queue leaves it. What was started before has been taken.
  void Start(const CheckpointStorage& storage, const std::string& folder);
  // Until the state may change. At once if nothing was started.
  void WaitCopied();
  // Whether what was started is not on disk yet, nor has failed.
  bool writing() const;
  // Waits for it.
  struct Written {
    absl::StatusOr<RankPart> part;
    double seconds = 0;  // copying, writing, flushing
  };
  Written Take();

 private:
  FileSystem& fs_;
  // The thread's own, for copies; null: there are none.
  const std::unique_ptr<Group> beside_;
  Group& all_;
  StateSnapshot snapshot_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool copied_ = true;
  bool started_ = false;
  std::optional<Written> written_;
  TaskQueue queue_;  // the last: its thread uses the others
};

}  // namespace trefoil
