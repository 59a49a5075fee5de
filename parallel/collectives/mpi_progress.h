// Moves messages between hosts while this rank computes. MPI moves a message that is too large to be sent unasked (more
// than 64 KiB over TCP) only while both ends are inside MPI: a stage that sends and then computes would keep the next one
// waiting for as long as it computes.
//
//   MpiProgress progress;              // one for a rank
//   progress.Watch(message);           // its Done() is called now and then
//   progress.Forget(message);          // before the message ends, if it has not been done
//
// A thread of its own asks the watched messages whether they are done, which is what moves them: every 100 microseconds at
// first, less often the longer nothing gets done. It sleeps while there are none, and is started by the first.
//
// Threads: all functions may be called from any; so may Done() of a watched message.
// Private to this folder.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "parallel/collectives/transport.h"

namespace trefoil {

class MpiProgress {
 public:
  MpiProgress() = default;
  ~MpiProgress();
  MpiProgress(const MpiProgress&) = delete;

  void Watch(Transport::Message& message);
  // Nothing if it is not watched. On return nobody calls its Done() any more.
  void Forget(Transport::Message& message);

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::vector<Transport::Message*> messages_;
  Transport::Clock::time_point last_change_;  // when a message was added, or done
  std::thread thread_;
};

}  // namespace trefoil
