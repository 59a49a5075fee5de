#include "parallel/collectives/nccl/lane.h"

#include <algorithm>
#include <utility>

#include "runtime/devices/cuda.h"
#include "runtime/kernels/cuda/cuda.h"

namespace trefoil {
namespace {

// Ranks of the two within their communicator.
constexpr int kSender = 0, kReceiver = 1;

ncclComm_t StartComm(const ncclUniqueId& id, int rank, const NcclWatchdog::Who& who, NcclWatchdog& watchdog) {
  ncclComm_t comm = nullptr;
  {
    const NcclWatchdog::Call call(watchdog, who, "starting a communicator of two");
    call.Check(ncclCommInitRank(&comm, 2, id, rank), nullptr);
  }
  watchdog.Add(who, comm);
  return comm;
}

void EndComm(ncclComm_t comm, const NcclWatchdog::Who& who, NcclWatchdog& watchdog) {
  watchdog.Remove(comm);
  const NcclWatchdog::Call call(watchdog, who, "ending a communicator of two");
  call.Check(ncclCommDestroy(comm), nullptr);
}

}  // namespace

ncclDataType_t NcclTypeOf(DType dtype) {
  return dtype == DType::kFloat32 ? ncclFloat32 : dtype == DType::kBFloat16 ? ncclBfloat16 : ncclInt32;
}

NcclSendLane::NcclSendLane(const ncclUniqueId& id, const NcclWatchdog::Who& who, Device& device,
                           NcclWatchdog& watchdog)
    : who_(who), device_(device), watchdog_(watchdog) {
  (void)CudaStreamOf(device_);  // makes this thread's current GPU the device's
  int gpu = 0;
  TREFOIL_CUDA(cudaGetDevice(&gpu));
  thread_ = std::thread([this, id, gpu] { Run(id, gpu); });
}

NcclSendLane::~NcclSendLane() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
  for (const Message& message : queued_) TREFOIL_CUDA(cudaEventDestroy(message.event));
}

void NcclSendLane::Send(const Tensor& x, int tag) {
  Message message = {.x = x, .tag = tag};
  TREFOIL_CUDA(cudaEventCreateWithFlags(&message.event, cudaEventDisableTiming));
  TREFOIL_CUDA(cudaEventRecord(message.event, CudaStreamOf(device_)));
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(message));
  }
  changed_.notify_all();
}

void NcclSendLane::FinishSend(int tag) {
  const auto with_tag = [=](const Message& message) { return message.tag == tag; };
  std::unique_lock lock(mutex_);
  auto message = queued_.end();
  changed_.wait(lock, [&] {
    message = std::find_if(queued_.begin(), queued_.end(), with_tag);
    return message != queued_.end() || std::none_of(waiting_.begin(), waiting_.end(), with_tag);
  });
  CHECK(message != queued_.end()) << *who_ << ": nothing sent with tag " << tag << " is unfinished";
  // The block goes back to the arena, where what takes it is queued behind.
  TREFOIL_CUDA(cudaStreamWaitEvent(CudaStreamOf(device_), message->event));
  TREFOIL_CUDA(cudaEventDestroy(message->event));
  queued_.erase(message);
}

void NcclSendLane::FinishSends() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return waiting_.empty(); });
  if (queued_.empty()) return;
  // The last one's event is behind the others'. The blocks go back to the arena, where what takes them is queued behind.
  TREFOIL_CUDA(cudaStreamWaitEvent(CudaStreamOf(device_), queued_.back().event));
  for (const Message& message : queued_) TREFOIL_CUDA(cudaEventDestroy(message.event));
  queued_.clear();
}

void NcclSendLane::Run(const ncclUniqueId& id, int gpu) {
  TREFOIL_CUDA(cudaSetDevice(gpu));
  cudaStream_t stream = nullptr;
  TREFOIL_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const ncclComm_t comm = StartComm(id, kSender, who_, watchdog_);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
    if (waiting_.empty()) break;
    const Message& message = waiting_.front();  // others only add behind it
    lock.unlock();
    TREFOIL_CUDA(cudaStreamWaitEvent(stream, message.event));
    {
      NcclWatchdog::Call call(watchdog_, who_, "Send");
      call.Check(ncclSend(message.x.raw(), static_cast<size_t>(message.x.elements()), NcclTypeOf(message.x.dtype()),
                          kReceiver, comm, stream),
                 comm);
      call.Queued(stream);
    }
    TREFOIL_CUDA(cudaEventRecord(message.event, stream));
    lock.lock();
    queued_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    changed_.notify_all();
  }
  lock.unlock();
  TREFOIL_CUDA(cudaStreamSynchronize(stream));
  EndComm(comm, who_, watchdog_);
  TREFOIL_CUDA(cudaStreamDestroy(stream));
}

NcclReceiveLane::NcclReceiveLane(const ncclUniqueId& id, const NcclWatchdog::Who& who, Device& device,
                                 NcclWatchdog& watchdog)
    : who_(who), device_(device), watchdog_(watchdog) {
  (void)CudaStreamOf(device_);
  comm_ = StartComm(id, kReceiver, who_, watchdog_);
}

NcclReceiveLane::~NcclReceiveLane() {
  for (const Started& started : started_) TREFOIL_CUDA(cudaEventDestroy(started.arrived));
  EndComm(comm_, who_, watchdog_);
  if (own_ != nullptr) TREFOIL_CUDA(cudaStreamDestroy(own_));
}

void NcclReceiveLane::Start(const Tensor& x) {
  const cudaStream_t stream = CudaStreamOf(device_);
  if (own_ == nullptr) TREFOIL_CUDA(cudaStreamCreateWithFlags(&own_, cudaStreamNonBlocking));
  cudaEvent_t event;
  TREFOIL_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  // What x's memory was before is done with.
  TREFOIL_CUDA(cudaEventRecord(event, stream));
  TREFOIL_CUDA(cudaStreamWaitEvent(own_, event));
  Queue(x, own_);
  TREFOIL_CUDA(cudaEventRecord(event, own_));
  started_.push_back({x.raw(), event});
}

void NcclReceiveLane::Receive(const Tensor& x) {
  const cudaStream_t stream = CudaStreamOf(device_);
  if (started_.empty()) return Queue(x, stream);
  const Started started = started_.front();
  CHECK(started.data == x.raw()) << *who_ << ": another receive was started before";
  started_.pop_front();
  TREFOIL_CUDA(cudaStreamWaitEvent(stream, started.arrived));
  TREFOIL_CUDA(cudaEventDestroy(started.arrived));
}

void NcclReceiveLane::Queue(const Tensor& x, cudaStream_t stream) {
  NcclWatchdog::Call call(watchdog_, who_, "Receive");
  call.Check(ncclRecv(x.raw(), static_cast<size_t>(x.elements()), NcclTypeOf(x.dtype()), kSender, comm_, stream),
             comm_);
  call.Queued(stream);
}

}  // namespace trefoil
