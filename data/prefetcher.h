// Batches read on a thread, so that those of the next step come from disk while a step computes.
//
//   Prefetcher prefetcher([&](int64_t first, int64_t count) { return loader->Get(first, count); },
//                         {.count = 2, .batches = 4, .stride = 32, .end = 32 * 1000});
//   for (int64_t step = 0; step < 1000; ++step) {
//     for (int i = 0; i < 4; ++i) TREFOIL_ASSIGN_OR_RETURN(Batch batch, prefetcher.Get(32 * step + 2 * i, 2));
//     ...                                        // meanwhile the next four are read
//   }
//
// It reads what ReadPlan says will be asked for, in that order, and holds one step's batches at most. Asking for another
// place (after a resume, or from the beginning once more) is fine: it waits for that place and goes on from there.
//
// Failure: an error of the reading is returned by the Get that asks for that batch, not before; asking again reads again.
// Threads: one thread at a time calls Get. The reading is done by one thread, joined by the destructor.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "data/batch.h"
#include "runtime/status.h"

namespace trefoil {

// What is going to be asked for: in each step `batches` batches of `count` samples, one after the other; the next step
// begins `stride` samples after this one. Samples from `end` on are never asked for: a batch that reaches over it ends
// there.
struct ReadPlan {
  int64_t count = 1;
  int64_t batches = 1;
  int64_t stride = 1;
  int64_t end = 0;
};

class Prefetcher {
 public:
  using Read = std::function<absl::StatusOr<Batch>(int64_t first, int64_t count)>;
  // Reading begins with the first Get. `read` is called by the thread and must be good for that.
  Prefetcher(Read read, const ReadPlan& plan);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  absl::StatusOr<Batch> Get(int64_t first, int64_t count);

 private:
  struct Request {
    int64_t first = 0, count = 0;
  };
  struct Held {
    Request request;
    absl::StatusOr<Batch> batch;
  };
  void Run();
  // These hold the mutex.
  bool MayRead() const;
  Request Next() const;
  void Advance();

  const Read read_;
  const ReadPlan plan_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Held> held_;
  // What is read next: batch number batch_ of the step that begins at step_first_, which is below 0 before the first Get.
  int64_t step_first_ = -1, batch_ = 0;
  int64_t turn_ = 0;  // counts the changes of place: what was read for an earlier one is dropped
  bool failed_ = false;  // what was read last is an error: wait until somebody asks again
  bool stop_ = false;
  std::thread thread_;  // the last member: it uses the others
};

}  // namespace trefoil
