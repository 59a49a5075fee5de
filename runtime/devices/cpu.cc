#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime/device.h"
#include "runtime/devices/cpu.h"
#include "runtime/host/cpu_features.h"
#include "runtime/host/host_limits.h"
#include "runtime/kernels.h"
#include "runtime/kernels/cpu/bf16_block.h"
#include "runtime/kernels/cpu/cpu.h"
#include "runtime/kernels/cpu/gemm.h"

namespace trefoil {
namespace {

using T = const Tensor&;

class CpuKernels : public Kernels {
 public:
  CpuKernels(Arena* arena, int threads, bool avx512, const cpu::Bf16Kernel* bf16, bool dry)
      : cpu_{arena, threads, avx512 ? &cpu::Avx512GemmKernel() : &cpu::Avx2GemmKernel(), bf16, avx512, dry} {}

  int64_t CompiledBytes() const override { return matmul_.compiled_bytes(); }
  void Activate(Activation activation, T x, T y) override { cpu::Activate(cpu_, activation, x, y); }
  void ActivateBackward(Activation activation, T dy, T x, T dx) override {
    cpu::ActivateBackward(cpu_, activation, dy, x, dx);
  }
  void GatedActivate(Activation activation, T gate_up, T y) override {
    cpu::GatedActivate(cpu_, activation, gate_up, y);
  }
  void GatedActivateBackward(Activation activation, T dy, T gate_up, T d_gate_up) override {
    cpu::GatedActivateBackward(cpu_, activation, dy, gate_up, d_gate_up);
  }
  void Matmul(T a, Transpose transpose_a, T b, Transpose transpose_b, T out, Accumulate accumulate, T bias) override {
    matmul_.Matmul(cpu_, a, transpose_a, b, transpose_b, out, accumulate, bias);
  }
  void MatmulGelu(T a, T b, T bias, T before, T out) override {
    Matmul(a, Transpose::kNo, b, Transpose::kYes, before, Accumulate::kNo, bias);
    Activate(Activation::kGelu, before, out);
  }
  void MatmulGeluBackward(T dy, T weight, T before, T dx, T d_bias) override {
    Matmul(dy, Transpose::kNo, weight, Transpose::kNo, dx, Accumulate::kNo, Tensor());
    ActivateBackward(Activation::kGelu, dx, before, dx);
    if (d_bias.defined()) BiasBackward(dx, d_bias);
  }
  void WeightGradient(T dy, T x, T d_weight, T d_bias) override {
    Matmul(dy, Transpose::kYes, x, Transpose::kNo, d_weight, Accumulate::kYes, Tensor());
    if (d_bias.defined()) BiasBackward(dy, d_bias);
  }
  void Quantize(T x, T out, T out_transposed, T scale) override { cpu::Quantize(cpu_, x, out, out_transposed, scale); }
  // Every fp8 value is a bf16 value, and so is a power of two times it.
  void MatmulFloat8(T a, T a_scale, T b, T b_scale, T out, Accumulate accumulate, T bias) override {
    const Tensor wide_a = cpu::NewWorkspace(cpu_, DType::kBFloat16, a.shape());
    const Tensor wide_b = cpu::NewWorkspace(cpu_, DType::kBFloat16, b.shape());
    cpu::FromFloat8(cpu_, a, a_scale, wide_a);
    cpu::FromFloat8(cpu_, b, b_scale, wide_b);
    Matmul(wide_a, Transpose::kNo, wide_b, Transpose::kYes, out, accumulate, bias);
  }
  void BiasBackward(T dy, T d_bias) override { cpu::BiasBackward(cpu_, dy, d_bias); }
  void AddBias(T x, T bias) override { cpu::AddBias(cpu_, x, bias); }
  void LayerNorm(T x, T weight, T bias, float epsilon, T y, T mean, T rstd) override {
    cpu::LayerNorm(cpu_, x, weight, bias, epsilon, y, mean, rstd);
  }
  void LayerNormBackward(T dy, T x, T weight, T mean, T rstd, T d_residual, T dx, T d_weight, T d_bias) override {
    cpu::LayerNormBackward(cpu_, dy, x, weight, mean, rstd, d_residual, dx, d_weight, d_bias);
  }
  void RmsNorm(const HeadColumns& x, int64_t heads, T weight, float epsilon, const HeadColumns& y, T rstd) override {
    cpu::RmsNorm(cpu_, x, heads, weight, epsilon, y, rstd);
  }
  void RmsNormBackward(const HeadColumns& dy, const HeadColumns& x, int64_t heads, T weight, T rstd, T d_residual,
                       const HeadColumns& dx, T d_weight) override {
    cpu::RmsNormBackward(cpu_, dy, x, heads, weight, rstd, d_residual, dx, d_weight);
  }
  void Dropout(T x, const DropoutMask& mask, T y) override { cpu::Dropout(cpu_, x, mask, y); }
  void Rotary(const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
              const RotaryFrequencies& frequencies, bool inverse) override {
    cpu::Rotary(cpu_, x, heads, head_dim, tokens, frequencies, inverse);
  }
  void Attention(const AttentionHeads& in, const AttentionShape& shape, const AttentionDropout& dropout, T out,
                 T log_sum_exp) override {
    cpu::Attention(cpu_, in, shape, dropout, out, log_sum_exp);
  }
  void AttentionBackward(T d_out, const AttentionHeads& in, T out, T log_sum_exp, const AttentionShape& shape,
                         const AttentionDropout& dropout, const AttentionHeads& gradients,
                         Accumulate accumulate) override {
    cpu::AttentionBackward(cpu_, d_out, in, out, log_sum_exp, shape, dropout, gradients, accumulate);
  }
  void MergeAttention(T out, T log_sum_exp, T part, T part_log_sum_exp) override {
    cpu::MergeAttention(cpu_, out, log_sum_exp, part, part_log_sum_exp);
  }
  void Embedding(T ids, T table, int64_t first_row, T y, Accumulate accumulate) override {
    cpu::Embedding(cpu_, ids, table, first_row, y, accumulate);
  }
  void EmbeddingBackward(T ids, T dy, int64_t first_row, T d_table) override {
    cpu::EmbeddingBackward(cpu_, ids, dy, first_row, d_table);
  }
  void MeanPool(T x, int64_t tokens, T lengths, int64_t first, T y) override {
    cpu::MeanPool(cpu_, x, tokens, lengths, first, y);
  }
  void MeanPoolBackward(T dy, int64_t tokens, T lengths, int64_t first, T dx) override {
    cpu::MeanPoolBackward(cpu_, dy, tokens, lengths, first, dx);
  }
  void RecurrentCell(Cell cell, T gates, T c_before, T h, T c) override {
    cpu::RecurrentCell(cpu_, cell, gates, c_before, h, c);
  }
  void RecurrentCellBackward(Cell cell, T dh, T dc, T gates, T c_before, T c, T d_gates, T d_c_before) override {
    cpu::RecurrentCellBackward(cpu_, cell, dh, dc, gates, c_before, c, d_gates, d_c_before);
  }
  void CrossEntropyStatistics(T logits, T targets, int64_t first_column, T statistics) override {
    cpu::CrossEntropyStatistics(cpu_, logits, targets, first_column, statistics);
  }
  void CrossEntropyCombine(T statistics, T weights, T loss, T log_sum_exp, const LabelSmoothing& smoothing,
                           T correct) override {
    cpu::CrossEntropyCombine(cpu_, statistics, weights, loss, log_sum_exp, smoothing, correct);
  }
  void CrossEntropyBackward(T logits, T targets, T weights, T log_sum_exp, int64_t first_column, float scale,
                            T d_logits, const LabelSmoothing& smoothing) override {
    cpu::CrossEntropyBackward(cpu_, logits, targets, weights, log_sum_exp, first_column, scale, d_logits, smoothing);
  }
  void SquaredError(T prediction, T target, T weights, T loss) override {
    cpu::SquaredError(cpu_, prediction, target, weights, loss);
  }
  void SquaredErrorBackward(T prediction, T target, T weights, float scale, T d_prediction) override {
    cpu::SquaredErrorBackward(cpu_, prediction, target, weights, scale, d_prediction);
  }
  void Add(T a, T b, T out) override { cpu::Add(cpu_, a, b, out); }
  void Scale(T x, float factor, T y) override { cpu::Scale(cpu_, x, factor, y); }
  void SumParts(T parts, T out) override { cpu::SumParts(cpu_, parts, out); }
  void Cast(T in, T out) override { cpu::Cast(cpu_, in, out); }
  void CopyColumns(const HeadColumns& from, int64_t columns, const HeadColumns& to) override {
    cpu::CopyColumns(cpu_, from, columns, to);
  }
  void Fill(T x, float value) override { cpu::Fill(cpu_, x, value); }
  ExactSums Sums(std::span<const Tensor> summed, std::span<const Tensor> squared) override {
    return cpu::Sums(cpu_, summed, squared);
  }
  void FillNormal(T x, const Shape& global, const Shape& offset, uint64_t key, float deviation) override {
    cpu::FillNormal(cpu_, x, global, offset, key, deviation);
  }
  void AdamW(std::span<const AdamWPart> parts, const AdamWStep& step) override { cpu::AdamW(cpu_, parts, step); }

 private:
  const cpu::CpuContext cpu_;
  cpu::MatmulEngine matmul_;
};

class CpuDevice : public Device {
 public:
  CpuDevice(std::shared_ptr<Arena> arena, int threads, Bf16Products bf16_products)
      : Device(arena, NewCpuKernels(*arena, threads, bf16_products, /*dry=*/false)), threads_(threads) {}
  void Upload(const void* host, const Tensor& tensor) override {
    if (tensor.bytes() > 0) std::memcpy(tensor.raw(), host, tensor.bytes());
  }
  void Download(const Tensor& tensor, void* host) override {
    if (tensor.bytes() > 0) std::memcpy(host, tensor.raw(), tensor.bytes());
  }
  void Synchronize() override {}
  bool computes() const override { return true; }
  bool host_addressable() const override { return true; }
  int64_t available_bytes() const override { return ReadHostLimits().available_bytes; }
  std::string name() const override { return "cpu"; }
  int threads() const override { return threads_; }

 private:
  const int threads_;
};

}  // namespace

std::unique_ptr<Kernels> NewCpuKernels(Arena& arena, int threads, Bf16Products bf16_products, bool dry) {
  const cpu::Bf16Kernel* bf16 = bf16_products == Bf16Products::kNative ? cpu::BestBf16Kernel() : nullptr;
  return std::make_unique<CpuKernels>(&arena, threads, CpuHasAvx512(), bf16, dry);
}

namespace {

// Blocks from this size on begin at a huge page and are made of them as far as they are whole: a product walks over
// hundreds of 4 KiB pages at a time, more than the CPU has addresses in its first table of translations.
constexpr int64_t kHugePage = int64_t{2} << 20;
// Blocks from this size on come from the system, each for itself. The heap would put them where others were, beside gaps
// that serve nobody, and a process would hold megabytes more than its tensors.
constexpr int64_t kMapped = int64_t{128} << 10;
// Its errors are found on the heap.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif

bool IsMapped(int64_t bytes) { return bytes >= kMapped && !kAddressSanitizer; }

int64_t Pages(int64_t bytes) {
  constexpr int64_t kPage = 4 << 10;
  return (bytes + kPage - 1) / kPage * kPage;
}

void* Map(int64_t bytes, int64_t alignment) {
  const int64_t length = Pages(bytes), slack = alignment > Pages(1) ? alignment : 0;
  void* mapped = mmap(nullptr, static_cast<size_t>(length + slack), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(mapped);
  const int64_t before = slack == 0 ? 0 : (alignment - reinterpret_cast<intptr_t>(begin) % alignment) % alignment;
  if (before > 0) munmap(begin, static_cast<size_t>(before));
  if (slack > before) munmap(begin + before + length, static_cast<size_t>(slack - before));
  return begin + before;
}

std::optional<void*> AllocateHost(int64_t bytes) {
  const int64_t alignment = bytes >= kHugePage ? kHugePage : 64;
  void* data = nullptr;
  if (IsMapped(bytes)) {
    data = Map(bytes, alignment);
  } else {
    const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 64));
    if (posix_memalign(&data, static_cast<size_t>(alignment), size) != 0) data = nullptr;
  }
  if (data == nullptr) return std::nullopt;
  // Where the system has none to give, small pages serve.
  if (bytes >= kHugePage) madvise(data, static_cast<size_t>(bytes / kHugePage * kHugePage), MADV_HUGEPAGE);
  return data;
}

void ReleaseHost(void* data, int64_t bytes) {
  if (!IsMapped(bytes)) return std::free(data);
  PCHECK(munmap(data, static_cast<size_t>(Pages(bytes))) == 0);
}

}  // namespace

std::unique_ptr<Device> NewCpuDevice(int threads, Bf16Products bf16_products) {
  CHECK_GE(threads, 1);
  CHECK(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      << "this CPU has no AVX2 with FMA; the kernels are compiled for x86-64-v3";
  return std::make_unique<CpuDevice>(Arena::Create(AllocateHost, ReleaseHost), threads, bf16_products);
}

}  // namespace trefoil
