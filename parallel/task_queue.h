// Tasks beside the main thread's work: messages of gradients and weights while layers compute. One after the other, in
// the order in which they were started, on a thread of its own.
//
//   TaskQueue queue(device, patience, /*threaded=*/true);
//   const TaskQueue::Ticket gather = queue.Start([&] { data.AllGather(shard, whole); });
//   ...                        // this thread computes
//   queue.Wait(gather);        // this thread's later ops may read `whole`
//
// On a device with queues a task's work starts after all that the main thread has queued when the task was started, and
// what the main thread queues after Wait starts after the task's: neither waits on the host for the device. Without a
// thread, as on a device that only counts, a task is done when Start returns: what is counted does not depend on timing.
//
// Threads: all functions from the main thread. What a task touches is its own from Start to Wait.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "parallel/collectives/patience.h"
#include "runtime/device.h"

namespace trefoil {

class TaskQueue {
 public:
  using Ticket = int64_t;  // from 1; 0: of no task, done

  // The device outlives it.
  TaskQueue(Device& device, std::shared_ptr<Patience> patience, bool threaded);
  ~TaskQueue();
  TaskQueue(const TaskQueue&) = delete;

  Ticket Start(std::function<void()> task);
  // For that task and those before it.
  void Wait(Ticket ticket);
  // For all that were started.
  void WaitForAll() { Wait(started_); }
  // If set, called before and after each task; where there is no thread.
  std::function<void(bool begins)> observer;

 private:
  struct Task {
    std::function<void()> run;
    Device::Mark before;  // what it starts after
  };

  void Run();

  Device& device_;
  const std::shared_ptr<Patience> patience_;
  Ticket started_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  std::deque<Device::Mark> marks_;  // of tasks that are done and have not been waited for: the last is of done_
  Ticket done_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace trefoil
