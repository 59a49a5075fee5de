// The way of messages from one rank of a group to another in one of Group::kLanes: a communicator of the two, started
// by the first message.
//
// At the sender's end it has a stream and a thread of its own. The stream, because NCCL's send lasts until its receive
// has begun: on the stream of the layers it would hold them up. The thread, because the host waits too, for the
// receiver to come, while the communicator starts and at its first message: two ranks that send to each other before
// they receive would wait for ever. So Send returns at once. Receives are queued on the calling thread's stream, or
// where they are started before they are waited for on one of their own.
//
// Messages arrive in order of sending.
//
// Threads: used by one. Private to this folder.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "parallel/collectives/nccl/watchdog.h"
#include "runtime/device.h"

namespace trefoil {

class NcclSendLane {
 public:
  // `who` names the group, this rank and the other. The device and the watchdog outlive the lane.
  NcclSendLane(const ncclUniqueId& id, const NcclWatchdog::Who& who, Device& device, NcclWatchdog& watchdog);
  // Waits until the messages are delivered.
  ~NcclSendLane();

  // Keeps x's elements until FinishSend or FinishSends.
  void Send(const Tensor& x, int tag);
  // What the calling thread queues from here on starts after the earliest message with this tag, of which there must be
  // one, is delivered; so its tensor is given up. Waits on the host until it is queued.
  void FinishSend(int tag);
  // What the calling thread queues from here on starts after all messages are delivered. Waits on the host until they
  // are queued.
  void FinishSends();

 private:
  struct Message {
    Tensor x;
    int tag = 0;  // for FinishSend: messages travel without
    cudaEvent_t event = nullptr;  // first: x is written; once queued: it is delivered
  };

  void Run(const ncclUniqueId& id, int gpu);

  const NcclWatchdog::Who who_;
  Device& device_;
  NcclWatchdog& watchdog_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> waiting_;  // for the thread; its front stays until it is queued
  std::deque<Message> queued_;
  bool stop_ = false;
  std::thread thread_;
};

class NcclReceiveLane {
 public:
  NcclReceiveLane(const ncclUniqueId& id, const NcclWatchdog::Who& who, Device& device, NcclWatchdog& watchdog);
  ~NcclReceiveLane();

  // x is the group's until its Receive; started in the order of their Receives.
  void Start(const Tensor& x);
  void Receive(const Tensor& x);

 private:
  struct Started {
    const void* data;
    cudaEvent_t arrived;
  };
  void Queue(const Tensor& x, cudaStream_t stream);

  const NcclWatchdog::Who who_;
  Device& device_;
  NcclWatchdog& watchdog_;
  ncclComm_t comm_ = nullptr;
  cudaStream_t own_ = nullptr;  // once a receive is started
  std::deque<Started> started_;
};

// NCCL's name of a dtype.
ncclDataType_t NcclTypeOf(DType dtype);

}  // namespace trefoil
