#include "parallel/collectives/nccl/watchdog.h"

#include <glog/logging.h>

#include <utility>

#include "runtime/kernels/cuda/cuda.h"
#include "runtime/op_journal.h"

namespace trefoil {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks(100);

}  // namespace

NcclWatchdog::~NcclWatchdog() {
  if (thread_.joinable()) {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    stopped_.notify_all();
    thread_.join();
  }
  for (const auto& [stream, operations] : queued_) {
    for (const Operation& operation : operations) TREFOIL_CUDA(cudaEventDestroy(operation.done));
  }
  for (const cudaEvent_t event : events_) TREFOIL_CUDA(cudaEventDestroy(event));
}

NcclWatchdog::Call::Call(NcclWatchdog& watchdog, const Who& who, const char* operation)
    : watchdog_(watchdog), operation_([&] {
        std::lock_guard lock(watchdog.mutex_);
        if (!watchdog.thread_.joinable()) {
          int device = 0;
          TREFOIL_CUDA(cudaGetDevice(&device));
          watchdog.thread_ = std::thread([&watchdog, device] { watchdog.Run(device); });
        }
        return watchdog.calls_.insert(
            watchdog.calls_.end(), {.who = who, .name = operation, .limit = watchdog.patience_->limit()});
      }()) {
  NoteOp(operation);
}

NcclWatchdog::Call::~Call() {
  std::lock_guard lock(watchdog_.mutex_);
  watchdog_.calls_.erase(operation_);
}

void NcclWatchdog::Call::Check(ncclResult_t result, ncclComm_t comm) const {
  if (result == ncclSuccess) return;
  LOG(FATAL) << *operation_->who << ": " << operation_->name << ": " << ncclGetErrorString(result) << ": "
             << ncclGetLastError(comm);
}

void NcclWatchdog::Call::Queued(cudaStream_t stream) {
  cudaStreamCaptureStatus recording = cudaStreamCaptureStatusNone;
  TREFOIL_CUDA(cudaStreamIsCapturing(stream, &recording));
  if (recording != cudaStreamCaptureStatusNone) return;
  std::lock_guard lock(watchdog_.mutex_);
  Operation operation = *operation_;
  if (watchdog_.events_.empty()) {
    TREFOIL_CUDA(cudaEventCreateWithFlags(&operation.done, cudaEventDisableTiming));
  } else {
    operation.done = watchdog_.events_.back();
    watchdog_.events_.pop_back();
  }
  TREFOIL_CUDA(cudaEventRecord(operation.done, stream));
  watchdog_.queued_[stream].push_back(std::move(operation));
}

void NcclWatchdog::Add(const Who& who, ncclComm_t comm) {
  std::lock_guard lock(mutex_);
  comms_[comm] = who;
}

void NcclWatchdog::Remove(ncclComm_t comm) {
  std::lock_guard lock(mutex_);
  comms_.erase(comm);
}

void NcclWatchdog::Run(int device) {
  TREFOIL_CUDA(cudaSetDevice(device));  // or it would start to use GPU 0 besides
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, kBetweenLooks, [&] { return stop_; })) LookAtAll();
}

void NcclWatchdog::LookAtAll() {
  for (const auto& [comm, who] : comms_) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
    if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) continue;
    LOG(FATAL) << *who << ": NCCL reports of an operation under way: "
               << ncclGetErrorString(asked == ncclSuccess ? state : asked) << ": " << ncclGetLastError(comm)
               << ". The last ops queued: " << LastOps();
  }
  for (const Operation& call : calls_) CheckTime(call, "is still waiting on the host");
  for (auto& [stream, operations] : queued_) {
    while (!operations.empty()) {
      const cudaError_t state = cudaEventQuery(operations.front().done);
      if (state == cudaErrorNotReady) {
        CheckTime(operations.front(), "is queued but not done");
        break;
      }
      TREFOIL_CUDA(state);
      events_.push_back(operations.front().done);
      operations.pop_front();
    }
  }
}

void NcclWatchdog::CheckTime(const Operation& operation, const char* state) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - operation.start).count();
  if (seconds < operation.limit.seconds) return;
  LOG(FATAL) << *operation.who << ": " << operation.name << " " << state << " after "
             << operation.limit.Text() << ": another rank of the group has ended or hangs, or the GPU does. The last ops "
                "queued: "
             << LastOps();
}

}  // namespace trefoil
