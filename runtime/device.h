// A device: memory, and a kernel for every op of runtime/ops.h.
//
// Three kinds: the CPU and CUDA devices compute; the null device only counts: its tensors have sizes but no elements,
// its kernels do nothing, and ops still check every shape and count FLOPs and bytes. What runs on one runs on all.
//
//   std::unique_ptr<Device> device = NewCpuDevice(/*threads=*/2);
//   Tensor x = device->Allocate(DType::kFloat32, {4, 64}, Purpose::kActivations);
//   device->Upload(host.data(), x);
//   Activate(*device, Activation::kGelu, x, y);
//
// Threads: a rank calls ops from its main thread, and those of its gradient reduction from a second one at the same time;
// Allocate, Upload and Download may be called from any. An observer is called on the thread of its op.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "runtime/arena.h"
#include "runtime/bf16_products.h"
#include "runtime/tensor.h"

namespace trefoil {

class Kernels;

// What one call of an op cost.
struct OpCount {
  const char* op = "";  // static name, "matmul"
  double flops = 0;     // multiply and add count as two
  double bytes = 0;     // operands read plus results written, once each
  double seconds = 0;   // measured on devices that compute, else 0
  DType dtype = DType::kFloat32;  // of its first operand that is not of integers
  struct Product {
    int64_t rows = 0, columns = 0, inner = 0;
    auto operator<=>(const Product&) const = default;
  } product;  // sizes of a matrix product; zeros for other ops
};

class Device {
 public:
  virtual ~Device();

  // Undefined content (the CPU device fills fresh memory with nothing; tests may poison it).
  Tensor Allocate(DType dtype, Shape shape, Purpose purpose);
  // Host to device and back, whole tensors. On return the copy is complete. No-ops on the null device.
  virtual void Upload(const void* host, const Tensor& tensor) = 0;
  virtual void Download(const Tensor& tensor, void* host) = 0;
  // A device may return from an op before it is done. Each thread that calls ops then has a queue of its own, in which
  // its work is done in order. A thread that needs what another thread's ops write says so:
  //
  //   Device::Mark written = device.MarkWork();   // on the writing thread, after its ops
  //   device.WaitFor(written);                    // on the reading thread: its later ops start after the mark
  //
  // A tensor must not be given up before its last use on another thread's queue is known to be done. Both return at
  // once; on the CPU, where ops return when they are done, they do nothing.
  using Mark = std::shared_ptr<void>;
  virtual Mark MarkWork() { return nullptr; }
  virtual void WaitFor(const Mark&) {}
  // Ops that were called once, to be run again without a call for each: what the host spends on them falls away.
  //
  //   std::unique_ptr<Device::Recording> recording = device.Record([&] { Cast(device, x, y); Add(device, y, z, z); });
  //   recording->Replay();   // as often as wanted: the same ops on the same tensors, with what these hold by then
  //
  // Record calls `ops` once, on this thread, but none of its work is done before Replay. Null, without calling it, on
  // devices that cannot record: the caller then runs the ops. The same ops must have run before: what they choose once is
  // then chosen, and the memory that they took and gave back is there, as a recording may not ask the system for more.
  // That memory is the recording's own until it dies. `ops` must not wait for the device, nor Upload, Download, MarkWork
  // or WaitFor, and no observer may be set: all this is CHECKed. Tensors that it uses and does not make must outlive the
  // recording; arguments that are no tensors stay as they are now.
  class Recording {
   public:
    virtual ~Recording() = default;
    // Queues the work, on the thread that recorded, behind what that thread has queued before.
    virtual void Replay() = 0;
  };
  virtual std::unique_ptr<Recording> Record(const std::function<void()>&) { return nullptr; }
  // Waits until all work that this thread has queued is done.
  virtual void Synchronize() = 0;
  // False on the null device: results have no values.
  virtual bool computes() const = 0;
  // Whether Tensor::raw() of its tensors may be read and written by the host: the CPU device.
  virtual bool host_addressable() const { return false; }
  // Whether MatmulFloat8 runs on it: GPUs have fp8 from compute capability 8.9 on.
  virtual bool has_float8() const { return true; }
  // Bytes that the device, or the host whose memory it is, could still give to this and other processes. 0: unknown.
  virtual int64_t available_bytes() const { return 0; }
  virtual std::string name() const = 0;  // "cpu", "null", "cuda:0"
  virtual std::string model() const { return ""; }  // of a GPU, by its driver: "NVIDIA H100 80GB HBM3"
  virtual int threads() const = 0;       // threads that kernels use; 1 where it means nothing

  // Not while this or another thread calls an op.
  MemoryUse memory() const;
  Arena& arena() { return *arena_; }
  // Of memory that the host reaches, for copies of the device's: the same where the host reaches that; page-locked, so
  // that copies are fast and made beside the device's work, on GPUs.
  virtual Arena& host_arena() const { return *arena_; }
  Kernels& kernels() { return *kernels_; }

  // Called after every op while set: counting, timing, tracing. Unset: no cost beyond a test.
  using Observer = std::function<void(const OpCount&, std::chrono::steady_clock::time_point start)>;
  void Observe(Observer observer) { observer_ = std::move(observer); }
  const Observer& observer() const { return observer_; }

 protected:
  Device(std::shared_ptr<Arena> arena, std::unique_ptr<Kernels> kernels);

 private:
  const std::shared_ptr<Arena> arena_;
  const std::unique_ptr<Kernels> kernels_;
  Observer observer_;
};

// Computes with `threads` OpenMP threads (at least 1).
std::unique_ptr<Device> NewCpuDevice(int threads, Bf16Products bf16_products = Bf16Products::kNative);
// Counts only. Its memory is that of the device that it stands for: for the same calls of a worker its arena is asked
// for the same blocks.
struct NullDeviceOptions {
  enum class StandsFor {
    kNothing,  // kernels take no workspace
    // This machine's CPU with `threads` threads. Exact: the CPU's own kernels take their workspace. oneDNN's products
    // are chosen, not compiled.
    kCpu,
    // A GPU: products take cuBLASLt's workspace. That of our own kernels, which is small beside it, and cuDNN's are left
    // out; so is what CUDA, cuBLAS and NCCL take for themselves.
    kCuda,
  } stands_for = StandsFor::kNothing;
  int threads = 1;  // at least 1
  Bf16Products bf16_products = Bf16Products::kNative;  // of the CPU
};
std::unique_ptr<Device> NewNullDevice(const NullDeviceOptions& options = {});

}  // namespace trefoil
