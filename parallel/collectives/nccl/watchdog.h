// Ends the program when NCCL fails, or one of its operations never ends: there is no one else to notice. An operation
// whose peer died holds the GPU, and soon the host, for ever.
//
//   NcclWatchdog watchdog(patience);                            // one for all groups of a rank
//   NcclWatchdog::Call call(watchdog, who, "AllGather");        // who: "group \"data\" of 4: rank 1 on node7"
//   call.Check(ncclAllGather(..., comm, stream), comm);
//   call.Queued(stream);
//
// A thread of its own looks ten times a second at three things:
//   - calls that the host is in: NCCL may wait for the peers in any, and does while a communicator starts;
//   - queued operations that the GPU has not done, by an event behind each;
//   - errors that NCCL reports for a communicator on its own (ncclCommGetAsyncError): a broken connection, a dead peer.
// An error, or a call or operation that is not done within the time-out of its start, is fatal: glog's abort ends this
// process, and mpirun then the job. The message names the group, this rank, the operation and the error or the seconds
// waited. The time-out counts from the call, so it must be longer than what the GPU may have before it in its queue.
//
// An operation that is being recorded (Device::Record) has no event of its own; Replayed() watches a whole replay.
//
// Threads: all functions may be called from any. Calls, communicators and the watchdog's groups end before it does.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "parallel/collectives/patience.h"

namespace trefoil {

class NcclWatchdog {
 public:
  using Who = std::shared_ptr<const std::string>;

  explicit NcclWatchdog(std::shared_ptr<const Patience> patience) : patience_(std::move(patience)) {}
  ~NcclWatchdog();
  NcclWatchdog(const NcclWatchdog&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  struct Operation {
    Who who;
    const char* name;
    Patience::Limit limit;
    Clock::time_point start = Clock::now();
    cudaEvent_t done = nullptr;  // of a queued one
  };

 public:
  // An operation from the first of its NCCL calls to the last.
  class Call {
   public:
    // `operation` lives for ever. The calling thread's current device is that of the operation.
    Call(NcclWatchdog& watchdog, const Who& who, const char* operation);
    ~Call();
    Call(const Call&) = delete;
    // Fatal unless the call succeeded. `comm` may be null.
    void Check(ncclResult_t result, ncclComm_t comm) const;
    // All of the operation is queued on the stream: what is watched from here on is the stream.
    void Queued(cudaStream_t stream);

   private:
    NcclWatchdog& watchdog_;
    const std::list<Operation>::iterator operation_;
  };

  // Starts and ends asking for a communicator's errors. It is not destroyed in between.
  void Add(const Who& who, ncclComm_t comm);
  void Remove(ncclComm_t comm);

 private:
  void Run(int device);
  // Under the lock.
  void LookAtAll();
  void CheckTime(const Operation& operation, const char* state) const;

  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  const std::shared_ptr<const Patience> patience_;
  std::list<Operation> calls_;                              // in progress on the host
  std::map<cudaStream_t, std::deque<Operation>> queued_;    // each stream's end in order
  std::vector<cudaEvent_t> events_;                         // for the next ones
  std::map<ncclComm_t, Who> comms_;
  std::thread thread_;                                      // from the first call on
};

}  // namespace trefoil
