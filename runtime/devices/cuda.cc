#include "runtime/devices/cuda.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "runtime/kernels.h"
#include "runtime/kernels/cuda/cuda.h"
#include "runtime/op_journal.h"

namespace trefoil {
namespace cuda {

void Check(cudaError_t error, const char* call, const char* file, int line) {
  if (error == cudaSuccess) return;
  int device = -1;
  (void)cudaGetDevice(&device);
  const std::string ops = LastOps();
  LOG(FATAL) << file << ":" << line << ": GPU " << device << ": " << call << ": " << cudaGetErrorString(error)
             << (ops.empty() ? ""
                             : ". A GPU reports late: this may be of an op queued before. The last ops queued: " + ops +
                                   ". With CUDA_LAUNCH_BLOCKING=1 in the environment the op itself reports");
}

}  // namespace cuda

namespace {

using T = const Tensor&;

// A stream for each thread that calls ops, made at its first call.
class Queues {
 public:
  explicit Queues(int ordinal) : ordinal_(ordinal) {}
  ~Queues() {
    for (const auto& [thread, queue] : queues_) {
      TREFOIL_CUDA(cudaStreamSynchronize(queue.stream));
      TREFOIL_CUDA(cudaStreamDestroy(queue.stream));
    }
  }

  struct Queue {
    cudaStream_t stream = nullptr;
    int number = 0;
    bool recording = false;
  };
  // Of the calling thread.
  Queue& Mine() {
    std::lock_guard lock(mutex_);
    Queue& queue = queues_[std::this_thread::get_id()];
    if (queue.stream == nullptr) {
      TREFOIL_CUDA(cudaSetDevice(ordinal_));  // the runtime keeps the current device per thread
      TREFOIL_CUDA(cudaStreamCreateWithFlags(&queue.stream, cudaStreamNonBlocking));
      queue.number = static_cast<int>(queues_.size());
    }
    return queue;
  }
  // For `call`, which a recording could not repeat.
  Queue& MineUnrecorded(const char* call) {
    Queue& queue = Mine();
    CHECK(!queue.recording) << call << " within Device::Record";
    return queue;
  }

 private:
  const int ordinal_;
  std::mutex mutex_;
  std::map<std::thread::id, Queue> queues_;
};

// Page-locked memory through which small uploads go, so that the caller need not wait for the device.
class Staging {
 public:
  static constexpr int64_t kBytes = int64_t{1} << 20;

  ~Staging() {
    for (Slot& slot : slots_) {
      if (slot.memory == nullptr) continue;
      TREFOIL_CUDA(cudaEventSynchronize(slot.free));
      TREFOIL_CUDA(cudaEventDestroy(slot.free));
      TREFOIL_CUDA(cudaFreeHost(slot.memory));
    }
  }

  // Queues the copy; `host` may be changed on return. At most kBytes.
  void Copy(const void* host, void* to, int64_t bytes, cudaStream_t stream) {
    std::lock_guard lock(mutex_);
    Slot& slot = slots_[next_++ % slots_.size()];
    if (slot.memory == nullptr) {
      TREFOIL_CUDA(cudaMallocHost(&slot.memory, kBytes));
      TREFOIL_CUDA(cudaEventCreateWithFlags(&slot.free, cudaEventDisableTiming));
    } else {
      TREFOIL_CUDA(cudaEventSynchronize(slot.free));
    }
    std::memcpy(slot.memory, host, static_cast<size_t>(bytes));
    TREFOIL_CUDA(cudaMemcpyAsync(to, slot.memory, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream));
    TREFOIL_CUDA(cudaEventRecord(slot.free, stream));
  }

 private:
  struct Slot {
    void* memory = nullptr;
    cudaEvent_t free = nullptr;  // when its last copy is done
  };
  std::mutex mutex_;
  std::array<Slot, 8> slots_;
  size_t next_ = 0;
};

class CudaKernels : public Kernels {
 public:
  CudaKernels(Queues& queues, Arena* arena, int multiprocessors, const CudaOptions& options)
      : queues_(queues), arena_(arena), multiprocessors_(multiprocessors) {
    if (options.attention == CudaOptions::Attention::kOwn) return;
    cudnn_ = std::make_unique<cuda::CudnnAttention>(options.attention == CudaOptions::Attention::kCudnnDeterministic);
  }

  void Activate(Activation activation, T x, T y) override { cuda::Activate(Here(), activation, x, y); }
  void ActivateBackward(Activation activation, T dy, T x, T dx) override {
    cuda::ActivateBackward(Here(), activation, dy, x, dx);
  }
  void GatedActivate(Activation activation, T gate_up, T y) override {
    cuda::GatedActivate(Here(), activation, gate_up, y);
  }
  void GatedActivateBackward(Activation activation, T dy, T gate_up, T d_gate_up) override {
    cuda::GatedActivateBackward(Here(), activation, dy, gate_up, d_gate_up);
  }
  void Matmul(T a, Transpose transpose_a, T b, Transpose transpose_b, T out, Accumulate accumulate, T bias) override {
    matmul_.Matmul(Here(), a, transpose_a, b, transpose_b, out, accumulate, bias);
  }
  void MatmulGelu(T a, T b, T bias, T before, T out) override { matmul_.MatmulGelu(Here(), a, b, bias, before, out); }
  void MatmulGeluBackward(T dy, T weight, T before, T dx, T d_bias) override {
    matmul_.MatmulGeluBackward(Here(), dy, weight, before, dx, d_bias);
  }
  void WeightGradient(T dy, T x, T d_weight, T d_bias) override {
    matmul_.WeightGradient(Here(), dy, x, d_weight, d_bias);
  }
  void Quantize(T x, T out, T out_transposed, T scale) override {
    cuda::Quantize(Here(), x, out, out_transposed, scale);
  }
  void MatmulFloat8(T a, T a_scale, T b, T b_scale, T out, Accumulate accumulate, T bias) override {
    matmul_.MatmulFloat8(Here(), a, a_scale, b, b_scale, out, accumulate, bias);
  }
  void BiasBackward(T dy, T d_bias) override { cuda::BiasBackward(Here(), dy, d_bias); }
  void AddBias(T x, T bias) override { cuda::AddBias(Here(), x, bias); }
  void LayerNorm(T x, T weight, T bias, float epsilon, T y, T mean, T rstd) override {
    cuda::LayerNorm(Here(), x, weight, bias, epsilon, y, mean, rstd);
  }
  void LayerNormBackward(T dy, T x, T weight, T mean, T rstd, T d_residual, T dx, T d_weight, T d_bias) override {
    cuda::LayerNormBackward(Here(), dy, x, weight, mean, rstd, d_residual, dx, d_weight, d_bias);
  }
  void RmsNorm(const HeadColumns& x, int64_t heads, T weight, float epsilon, const HeadColumns& y, T rstd) override {
    cuda::RmsNorm(Here(), x, heads, weight, epsilon, y, rstd);
  }
  void RmsNormBackward(const HeadColumns& dy, const HeadColumns& x, int64_t heads, T weight, T rstd, T d_residual,
                       const HeadColumns& dx, T d_weight) override {
    cuda::RmsNormBackward(Here(), dy, x, heads, weight, rstd, d_residual, dx, d_weight);
  }
  void Dropout(T x, const DropoutMask& mask, T y) override { cuda::Dropout(Here(), x, mask, y); }
  void Rotary(const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
              const RotaryFrequencies& frequencies, bool inverse) override {
    cuda::Rotary(Here(), x, heads, head_dim, tokens, frequencies, inverse);
  }
  void Attention(const AttentionHeads& in, const AttentionShape& shape, const AttentionDropout& dropout, T out,
                 T log_sum_exp) override {
    if (cudnn_ != nullptr && cudnn_->Forward(Here(), in, shape, dropout, out, log_sum_exp)) return;
    cuda::Attention(Here(), in, shape, dropout, out, log_sum_exp);
  }
  void AttentionBackward(T d_out, const AttentionHeads& in, T out, T log_sum_exp, const AttentionShape& shape,
                         const AttentionDropout& dropout, const AttentionHeads& gradients,
                         Accumulate accumulate) override {
    if (cudnn_ != nullptr &&
        cudnn_->Backward(Here(), d_out, in, out, log_sum_exp, shape, dropout, gradients, accumulate)) {
      return;
    }
    cuda::AttentionBackward(Here(), d_out, in, out, log_sum_exp, shape, dropout, gradients, accumulate);
  }
  void MergeAttention(T out, T log_sum_exp, T part, T part_log_sum_exp) override {
    cuda::MergeAttention(Here(), out, log_sum_exp, part, part_log_sum_exp);
  }
  void Embedding(T ids, T table, int64_t first_row, T y, Accumulate accumulate) override {
    cuda::Embedding(Here(), ids, table, first_row, y, accumulate);
  }
  void EmbeddingBackward(T ids, T dy, int64_t first_row, T d_table) override {
    cuda::EmbeddingBackward(Here(), ids, dy, first_row, d_table);
  }
  void MeanPool(T x, int64_t tokens, T lengths, int64_t first, T y) override {
    cuda::MeanPool(Here(), x, tokens, lengths, first, y);
  }
  void MeanPoolBackward(T dy, int64_t tokens, T lengths, int64_t first, T dx) override {
    cuda::MeanPoolBackward(Here(), dy, tokens, lengths, first, dx);
  }
  void RecurrentCell(Cell cell, T gates, T c_before, T h, T c) override {
    cuda::RecurrentCell(Here(), cell, gates, c_before, h, c);
  }
  void RecurrentCellBackward(Cell cell, T dh, T dc, T gates, T c_before, T c, T d_gates, T d_c_before) override {
    cuda::RecurrentCellBackward(Here(), cell, dh, dc, gates, c_before, c, d_gates, d_c_before);
  }
  void CrossEntropyStatistics(T logits, T targets, int64_t first_column, T statistics) override {
    cuda::CrossEntropyStatistics(Here(), logits, targets, first_column, statistics);
  }
  void CrossEntropyCombine(T statistics, T weights, T loss, T log_sum_exp, const LabelSmoothing& smoothing,
                           T correct) override {
    cuda::CrossEntropyCombine(Here(), statistics, weights, loss, log_sum_exp, smoothing, correct);
  }
  void CrossEntropyBackward(T logits, T targets, T weights, T log_sum_exp, int64_t first_column, float scale,
                            T d_logits, const LabelSmoothing& smoothing) override {
    cuda::CrossEntropyBackward(Here(), logits, targets, weights, log_sum_exp, first_column, scale, d_logits,
                               smoothing);
  }
  void SquaredError(T prediction, T target, T weights, T loss) override {
    cuda::SquaredError(Here(), prediction, target, weights, loss);
  }
  void SquaredErrorBackward(T prediction, T target, T weights, float scale, T d_prediction) override {
    cuda::SquaredErrorBackward(Here(), prediction, target, weights, scale, d_prediction);
  }
  void Add(T a, T b, T out) override { cuda::Add(Here(), a, b, out); }
  void Scale(T x, float factor, T y) override { cuda::Scale(Here(), x, factor, y); }
  void SumParts(T parts, T out) override { cuda::SumParts(Here(), parts, out); }
  void Cast(T in, T out) override { cuda::Cast(Here(), in, out); }
  void CopyColumns(const HeadColumns& from, int64_t columns, const HeadColumns& to) override {
    cuda::CopyColumns(Here(), from, columns, to);
  }
  void Fill(T x, float value) override { cuda::Fill(Here(), x, value); }
  ExactSums Sums(std::span<const Tensor> summed, std::span<const Tensor> squared) override {
    queues_.MineUnrecorded("Sums");
    return cuda::Sums(Here(), summed, squared);
  }
  void FillNormal(T x, const Shape& global, const Shape& offset, uint64_t key, float deviation) override {
    cuda::FillNormal(Here(), x, global, offset, key, deviation);
  }
  void AdamW(std::span<const AdamWPart> parts, const AdamWStep& step) override { cuda::AdamW(Here(), parts, step); }

 private:
  cuda::CudaContext Here() const { return {arena_, queues_.Mine().stream, multiprocessors_}; }

  Queues& queues_;
  Arena* const arena_;
  const int multiprocessors_;
  cuda::MatmulEngine matmul_;
  std::unique_ptr<cuda::CudnnAttention> cudnn_;  // null: our own attention
};

// A CUDA graph of what a queue was given while it recorded.
class CudaRecording : public Device::Recording {
 public:
  CudaRecording(std::shared_ptr<Queues> queues, std::unique_ptr<Arena::PrivatePool> memory, cudaGraph_t graph)
      : queues_(std::move(queues)), queue_(queues_->Mine()), memory_(std::move(memory)) {
    TREFOIL_CUDA(cudaGraphInstantiate(&graph_, graph, 0));
  }
  // The memory goes back to the queue, where what uses it next is behind the last replay.
  ~CudaRecording() override { TREFOIL_CUDA(cudaGraphExecDestroy(graph_)); }
  void Replay() override {
    NoteOp("a replayed recording");
    CHECK(&queues_->MineUnrecorded("Replay") == &queue_) << "a recording is replayed by the thread that made it";
    TREFOIL_CUDA(cudaGraphLaunch(graph_, queue_.stream));
  }

 private:
  const std::shared_ptr<Queues> queues_;
  const Queues::Queue& queue_;
  const std::unique_ptr<Arena::PrivatePool> memory_;
  cudaGraphExec_t graph_ = nullptr;
};

class CudaDevice : public Device {
 public:
  CudaDevice(int ordinal, const cudaDeviceProp& properties, std::shared_ptr<Queues> queues,
             std::shared_ptr<Arena> arena, std::shared_ptr<Arena> host_arena, const CudaOptions& options)
      : Device(arena, std::make_unique<CudaKernels>(*queues, arena.get(), properties.multiProcessorCount, options)),
        ordinal_(ordinal),
        model_(properties.name),
        has_float8_(properties.major > 8 || (properties.major == 8 && properties.minor >= 9)),
        queues_(std::move(queues)),
        host_arena_(std::move(host_arena)) {}

  void Upload(const void* host, const Tensor& tensor) override {
    const cudaStream_t stream = queues_->MineUnrecorded("Upload").stream;
    if (tensor.bytes() == 0) return;
    if (tensor.bytes() <= Staging::kBytes) return staging_.Copy(host, tensor.raw(), tensor.bytes(), stream);
    TREFOIL_CUDA(cudaMemcpyAsync(tensor.raw(), host, static_cast<size_t>(tensor.bytes()), cudaMemcpyHostToDevice, stream));
    TREFOIL_CUDA(cudaStreamSynchronize(stream));
  }
  void Download(const Tensor& tensor, void* host) override {
    const cudaStream_t stream = queues_->MineUnrecorded("Download").stream;
    if (tensor.bytes() == 0) return;
    TREFOIL_CUDA(cudaMemcpyAsync(host, tensor.raw(), static_cast<size_t>(tensor.bytes()), cudaMemcpyDeviceToHost, stream));
    TREFOIL_CUDA(cudaStreamSynchronize(stream));
  }
  Mark MarkWork() override {
    auto event = std::shared_ptr<cudaEvent_t>(new cudaEvent_t, [](cudaEvent_t* dead) {
      TREFOIL_CUDA(cudaEventDestroy(*dead));
      delete dead;
    });
    const cudaStream_t stream = queues_->MineUnrecorded("MarkWork").stream;
    TREFOIL_CUDA(cudaEventCreateWithFlags(event.get(), cudaEventDisableTiming));
    TREFOIL_CUDA(cudaEventRecord(*event, stream));
    return event;
  }
  void WaitFor(const Mark& mark) override {
    if (mark == nullptr) return;
    TREFOIL_CUDA(cudaStreamWaitEvent(queues_->MineUnrecorded("WaitFor").stream, *static_cast<cudaEvent_t*>(mark.get())));
  }
  // Stream capture, in the mode that lets other threads do what they like meanwhile.
  std::unique_ptr<Recording> Record(const std::function<void()>& ops) override {
    CHECK(!observer()) << "a recording cannot be observed";
    Queues::Queue& queue = queues_->MineUnrecorded("Record");
    std::unique_ptr<Arena::PrivatePool> memory = arena().NewPrivatePool();
    queue.recording = true;
    TREFOIL_CUDA(cudaStreamBeginCapture(queue.stream, cudaStreamCaptureModeThreadLocal));
    ops();
    cudaGraph_t graph = nullptr;
    TREFOIL_CUDA(cudaStreamEndCapture(queue.stream, &graph));
    queue.recording = false;
    memory->Close();
    auto recording = std::make_unique<CudaRecording>(queues_, std::move(memory), graph);
    TREFOIL_CUDA(cudaGraphDestroy(graph));
    return recording;
  }
  cudaStream_t stream() { return queues_->Mine().stream; }
  void Synchronize() override { TREFOIL_CUDA(cudaStreamSynchronize(queues_->MineUnrecorded("Synchronize").stream)); }
  bool computes() const override { return true; }
  bool has_float8() const override { return has_float8_; }
  std::string name() const override { return "cuda:" + std::to_string(ordinal_); }
  std::string model() const override { return model_; }
  int threads() const override { return 1; }
  int64_t available_bytes() const override {
    size_t free = 0, total = 0;
    TREFOIL_CUDA(cudaMemGetInfo(&free, &total));
    return static_cast<int64_t>(free);
  }
  Arena& host_arena() const override { return *host_arena_; }

 private:
  const int ordinal_;
  const std::string model_;
  const bool has_float8_;
  const std::shared_ptr<Queues> queues_;
  const std::shared_ptr<Arena> host_arena_;
  Staging staging_;
};

}  // namespace

CUstream_st* CudaStreamOf(Device& device) {
  auto* cuda = dynamic_cast<CudaDevice*>(&device);
  CHECK(cuda != nullptr) << "device " << device.name() << " has no CUDA stream";
  return cuda->stream();
}

absl::StatusOr<int> CudaDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    return absl::UnavailableError(std::string("no GPU can be used: ") + cudaGetErrorString(error));
  }
  if (count == 0) return absl::UnavailableError("no GPU can be used: the CUDA runtime finds none");
  return count;
}

absl::StatusOr<std::vector<std::string>> CudaUuids() {
  TREFOIL_ASSIGN_OR_RETURN(const int count, CudaDevices());
  std::vector<std::string> uuids;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    cudaDeviceProp properties;
    TREFOIL_CUDA(cudaGetDeviceProperties(&properties, ordinal));
    std::string text = "GPU";
    for (size_t i = 0; i < sizeof(properties.uuid.bytes); ++i) {
      char digits[4];
      const bool dash = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
      std::snprintf(digits, sizeof(digits), dash ? "-%02x" : "%02x", static_cast<unsigned char>(properties.uuid.bytes[i]));
      text += digits;
    }
    uuids.push_back(std::move(text));
  }
  return uuids;
}

absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(int ordinal, const CudaOptions& options) {
  TREFOIL_ASSIGN_OR_RETURN(const int count, CudaDevices());
  if (ordinal < 0 || ordinal >= count) {
    return absl::NotFoundError("GPU " + std::to_string(ordinal) + ": this host has " + std::to_string(count) +
                               ", numbered from 0");
  }
  cudaDeviceProp properties;
  TREFOIL_CUDA(cudaGetDeviceProperties(&properties, ordinal));
  if (properties.major < 8) {
    return absl::FailedPreconditionError(std::string("GPU ") + std::to_string(ordinal) + " (" + properties.name +
                                         ") has compute capability " + std::to_string(properties.major) + "." +
                                         std::to_string(properties.minor) + "; at least 8.0 is needed (bf16)");
  }
  TREFOIL_CUDA(cudaSetDevice(ordinal));
  auto queues = std::make_shared<Queues>(ordinal);
  auto acquire = [ordinal, queues](int64_t bytes) -> std::optional<void*> {
    CHECK(!queues->Mine().recording) << "a recording takes a block of " << bytes << " bytes more than the ops took when "
                                        "they ran before it";
    void* data = nullptr;
    TREFOIL_CUDA(cudaSetDevice(ordinal));
    const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(bytes, 64)));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // which would be found by the next call
      return std::nullopt;
    }
    TREFOIL_CUDA(error);
    return data;
  };
  auto release = [](void* data, int64_t) { TREFOIL_CUDA(cudaFree(data)); };
  // The arena may outlive the device, in the hands of tensors: it keeps the streams that its blocks are used on.
  std::shared_ptr<Arena> arena = Arena::Create(acquire, release, [queues] { return queues->Mine().number; });
  auto acquire_host = [ordinal](int64_t bytes) -> std::optional<void*> {
    void* data = nullptr;
    TREFOIL_CUDA(cudaSetDevice(ordinal));
    const cudaError_t error = cudaMallocHost(&data, static_cast<size_t>(std::max<int64_t>(bytes, 64)));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return std::nullopt;
    }
    TREFOIL_CUDA(error);
    return data;
  };
  auto release_host = [](void* data, int64_t) { TREFOIL_CUDA(cudaFreeHost(data)); };
  return std::make_unique<CudaDevice>(ordinal, properties, std::move(queues), std::move(arena),
                                      Arena::Create(acquire_host, release_host), options);
}

}  // namespace trefoil
