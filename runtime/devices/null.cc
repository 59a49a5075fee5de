#include "runtime/device.h"
#include "runtime/devices/cpu.h"
#include "runtime/kernels.h"
#include "runtime/kernels/cuda/workspace.h"

namespace trefoil {
namespace {

using T = const Tensor&;

class NullKernels : public Kernels {
 public:
  void Activate(Activation, T, T) override {}
  void ActivateBackward(Activation, T, T, T) override {}
  void GatedActivate(Activation, T, T) override {}
  void GatedActivateBackward(Activation, T, T, T) override {}
  void Matmul(T, Transpose, T, Transpose, T, Accumulate, T) override {}
  void MatmulGelu(T, T, T, T, T) override {}
  void MatmulGeluBackward(T, T, T, T, T) override {}
  void WeightGradient(T, T, T, T) override {}
  void Quantize(T, T, T, T) override {}
  void MatmulFloat8(T, T, T, T, T, Accumulate, T) override {}
  void BiasBackward(T, T) override {}
  void AddBias(T, T) override {}
  void LayerNorm(T, T, T, float, T, T, T) override {}
  void LayerNormBackward(T, T, T, T, T, T, T, T, T) override {}
  void RmsNorm(const HeadColumns&, int64_t, T, float, const HeadColumns&, T) override {}
  void RmsNormBackward(const HeadColumns&, const HeadColumns&, int64_t, T, T, T, const HeadColumns&, T) override {}
  void Dropout(T, const DropoutMask&, T) override {}
  void Rotary(const HeadColumns&, int64_t, int64_t, const TokenRanges&, const RotaryFrequencies&,
              bool) override {}
  void Attention(const AttentionHeads&, const AttentionShape&, const AttentionDropout&, T, T) override {}
  void AttentionBackward(T, const AttentionHeads&, T, T, const AttentionShape&, const AttentionDropout&,
                         const AttentionHeads&, Accumulate) override {}
  void MergeAttention(T, T, T, T) override {}
  void Embedding(T, T, int64_t, T, Accumulate) override {}
  void EmbeddingBackward(T, T, int64_t, T) override {}
  void MeanPool(T, int64_t, T, int64_t, T) override {}
  void MeanPoolBackward(T, int64_t, T, int64_t, T) override {}
  void RecurrentCell(Cell, T, T, T, T) override {}
  void RecurrentCellBackward(Cell, T, T, T, T, T, T, T) override {}
  void CrossEntropyStatistics(T, T, int64_t, T) override {}
  void CrossEntropyCombine(T, T, T, T, const LabelSmoothing&, T) override {}
  void CrossEntropyBackward(T, T, T, T, int64_t, float, T, const LabelSmoothing&) override {}
  void SquaredError(T, T, T, T) override {}
  void SquaredErrorBackward(T, T, T, float, T) override {}
  void Add(T, T, T) override {}
  void Scale(T, float, T) override {}
  void SumParts(T, T) override {}
  void Cast(T, T) override {}
  void CopyColumns(const HeadColumns&, int64_t, const HeadColumns&) override {}
  void Fill(T, float) override {}
  ExactSums Sums(std::span<const Tensor>, std::span<const Tensor>) override { return {}; }
  void FillNormal(T, const Shape&, const Shape&, uint64_t, float) override {}
  void AdamW(std::span<const AdamWPart>, const AdamWStep&) override {}
};

// The kernels of the CPU that take workspace.
class CpuWorkspace : public NullKernels {
 public:
  CpuWorkspace(Arena& arena, const NullDeviceOptions& options)
      : cpu_(NewCpuKernels(arena, options.threads, options.bf16_products, /*dry=*/true)) {}
  int64_t CompiledBytes() const override { return cpu_->CompiledBytes(); }
  void Matmul(T a, Transpose transpose_a, T b, Transpose transpose_b, T out, Accumulate accumulate, T bias) override {
    cpu_->Matmul(a, transpose_a, b, transpose_b, out, accumulate, bias);
  }
  void MatmulGelu(T a, T b, T bias, T before, T out) override { cpu_->MatmulGelu(a, b, bias, before, out); }
  void MatmulGeluBackward(T dy, T weight, T before, T dx, T d_bias) override {
    cpu_->MatmulGeluBackward(dy, weight, before, dx, d_bias);
  }
  void WeightGradient(T dy, T x, T d_weight, T d_bias) override { cpu_->WeightGradient(dy, x, d_weight, d_bias); }
  void MatmulFloat8(T a, T a_scale, T b, T b_scale, T out, Accumulate accumulate, T bias) override {
    cpu_->MatmulFloat8(a, a_scale, b, b_scale, out, accumulate, bias);
  }
  void BiasBackward(T dy, T d_bias) override { cpu_->BiasBackward(dy, d_bias); }
  void LayerNormBackward(T dy, T x, T weight, T mean, T rstd, T d_residual, T dx, T d_weight, T d_bias) override {
    cpu_->LayerNormBackward(dy, x, weight, mean, rstd, d_residual, dx, d_weight, d_bias);
  }
  void RmsNormBackward(const HeadColumns& dy, const HeadColumns& x, int64_t heads, T weight, T rstd, T d_residual,
                       const HeadColumns& dx, T d_weight) override {
    cpu_->RmsNormBackward(dy, x, heads, weight, rstd, d_residual, dx, d_weight);
  }
  void Rotary(const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
              const RotaryFrequencies& frequencies, bool inverse) override {
    cpu_->Rotary(x, heads, head_dim, tokens, frequencies, inverse);
  }
  void Attention(const AttentionHeads& in, const AttentionShape& shape, const AttentionDropout& dropout, T out,
                 T log_sum_exp) override {
    cpu_->Attention(in, shape, dropout, out, log_sum_exp);
  }
  void AttentionBackward(T d_out, const AttentionHeads& in, T out, T log_sum_exp, const AttentionShape& shape,
                         const AttentionDropout& dropout, const AttentionHeads& gradients,
                         Accumulate accumulate) override {
    cpu_->AttentionBackward(d_out, in, out, log_sum_exp, shape, dropout, gradients, accumulate);
  }

 private:
  const std::unique_ptr<Kernels> cpu_;
};

class CudaWorkspace : public NullKernels {
 public:
  explicit CudaWorkspace(Arena& arena) : arena_(arena) {}
  void Matmul(T, Transpose, T, Transpose, T, Accumulate, T) override { Take(); }
  void MatmulGelu(T, T, T, T, T) override { Take(); }
  void MatmulGeluBackward(T, T, T, T, T) override { Take(); }
  void WeightGradient(T, T, T, T) override { Take(); }
  void MatmulFloat8(T, T, T, T, T, Accumulate, T) override { Take(); }

 private:
  void Take() { arena_.Allocate(cuda::kBlasWorkspaceBytes, Purpose::kWorkspace); }

  Arena& arena_;
};

std::unique_ptr<Kernels> NewKernels(Arena& arena, const NullDeviceOptions& options) {
  switch (options.stands_for) {
    case NullDeviceOptions::StandsFor::kNothing:
      return std::make_unique<NullKernels>();
    case NullDeviceOptions::StandsFor::kCpu:
      return std::make_unique<CpuWorkspace>(arena, options);
    case NullDeviceOptions::StandsFor::kCuda:
      return std::make_unique<CudaWorkspace>(arena);
  }
  LOG(FATAL) << "no such device to stand for";
}

class NullDevice : public Device {
 public:
  NullDevice(const std::shared_ptr<Arena>& arena, const NullDeviceOptions& options, std::shared_ptr<Arena> host_arena)
      : Device(arena, NewKernels(*arena, options)), threads_(options.threads), host_arena_(std::move(host_arena)) {}
  void Upload(const void*, const Tensor&) override {}
  void Download(const Tensor&, void*) override {}
  void Synchronize() override {}
  bool computes() const override { return false; }
  Arena& host_arena() const override { return host_arena_ == nullptr ? Device::host_arena() : *host_arena_; }
  std::string name() const override { return "null"; }
  int threads() const override { return threads_; }

 private:
  const int threads_;
  const std::shared_ptr<Arena> host_arena_;  // of a GPU's host
};

std::shared_ptr<Arena> NewCountingArena() {
  return Arena::Create([](int64_t) { return nullptr; }, [](void*, int64_t) {});
}

}  // namespace

std::unique_ptr<Device> NewNullDevice(const NullDeviceOptions& options) {
  CHECK_GE(options.threads, 1);
  const bool gpu = options.stands_for == NullDeviceOptions::StandsFor::kCuda;
  return std::make_unique<NullDevice>(NewCountingArena(), options, gpu ? NewCountingArena() : nullptr);
}

}  // namespace trefoil
