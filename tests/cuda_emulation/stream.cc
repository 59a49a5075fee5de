#include "tests/cuda_emulation/stream.h"

#include <cuda_runtime_api.h>
#include <glog/logging.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};

namespace {

// How often an event was recorded, and up to which of these the streams have come.
struct EventState {
  std::mutex mutex;
  std::condition_variable changed;
  int64_t recorded = 0, reached = 0;
  CUgraph_st* captured_in = nullptr;

  void Reach(int64_t number) {
    std::lock_guard lock(mutex);
    reached = std::max(reached, number);
    changed.notify_all();
  }
  void Wait(int64_t number) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return reached >= number; });
  }
};

// Captures begun by this thread: some calls are errors meanwhile.
thread_local int captures = 0;

}  // namespace

struct CUevent_st {
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
};

struct CUstream_st;

namespace {

// The streams that there are. Streams are not destroyed while another thread frees memory: ours are not.
std::mutex all_mutex;
std::set<CUstream_st*>& All() {
  static auto* const all = new std::set<CUstream_st*>;
  return *all;
}

}  // namespace

struct CUstream_st {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Work> queue;
  bool busy = false, stop = false;
  std::unique_ptr<CUgraph_st> capture;
  std::thread worker{[this] { Run(); }};

  void Add(Work work) {
    std::lock_guard lock(mutex);
    if (capture != nullptr) {
      capture->work.push_back(std::move(work));
      return;
    }
    queue.push_back(std::move(work));
    changed.notify_all();
  }
  void Run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stop || !queue.empty(); });
      if (queue.empty()) return;
      const Work work = std::move(queue.front());
      queue.pop_front();
      busy = true;
      lock.unlock();
      work();
      lock.lock();
      busy = false;
      changed.notify_all();
    }
  }
  void Drain() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return queue.empty() && !busy; });
  }
};

void trefoil::emulation::Enqueue(cudaStream_t stream, Work work) {
  CHECK(stream != nullptr) << "work on the default stream";
  stream->Add(std::move(work));
}

using trefoil::emulation::Enqueue;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  CHECK_EQ(flags, static_cast<unsigned>(cudaStreamNonBlocking));
  *stream = new CUstream_st;
  std::lock_guard lock(all_mutex);
  All().insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    std::lock_guard lock(all_mutex);
    All().erase(stream);
  }
  {
    std::lock_guard lock(stream->mutex);
    stream->stop = true;
    stream->changed.notify_all();
  }
  stream->worker.join();
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capture != nullptr) return cudaErrorStreamCaptureUnsupported;
  stream->Drain();
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  std::lock_guard lock(stream->mutex);
  return stream->queue.empty() && !stream->busy ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::shared_ptr<EventState> state = event->state;
  int64_t number;
  {
    std::lock_guard lock(state->mutex);
    number = ++state->recorded;
    state->captured_in = stream->capture.get();
    if (state->captured_in != nullptr) return cudaSuccess;
  }
  Enqueue(stream, [state, number] { state->Reach(number); });
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::shared_ptr<EventState> state = event->state;
  int64_t number;
  {
    std::lock_guard lock(state->mutex);
    if (state->captured_in != stream->capture.get()) return cudaErrorStreamCaptureIsolation;
    if (state->captured_in != nullptr) return cudaSuccess;  // one stream's work is in order anyway
    number = state->recorded;
  }
  Enqueue(stream, [state, number] { state->Wait(number); });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  int64_t number;
  {
    std::lock_guard lock(event->state->mutex);
    number = event->state->recorded;
  }
  event->state->Wait(number);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  std::lock_guard lock(event->state->mutex);
  return event->state->reached >= event->state->recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  Enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  Enqueue(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  std::lock_guard lock(stream->mutex);
  if (stream->capture != nullptr) return cudaErrorIllegalState;
  stream->capture = std::make_unique<CUgraph_st>();
  ++captures;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  std::lock_guard lock(stream->mutex);
  if (stream->capture == nullptr) return cudaErrorIllegalState;
  *graph = stream->capture.release();
  --captures;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  std::lock_guard lock(stream->mutex);
  *status = stream->capture != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Enqueue(stream, [work = executable->work] {
    for (const Work& each : work) each();
  });
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }

}  // extern "C"

namespace trefoil::emulation {
bool Capturing() { return captures > 0; }

void DrainAll() {
  std::lock_guard lock(all_mutex);
  for (CUstream_st* stream : All()) stream->Drain();
}

}  // namespace trefoil::emulation
