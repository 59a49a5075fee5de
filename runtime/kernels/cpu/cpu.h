// The CPU's kernels, one file per kind: cpu/NAME.cc. What each computes is said in runtime/ops.h.
//
// Each takes a CpuContext first: where workspace comes from and how many OpenMP threads to use. A kernel opens no
// parallel region when that is 1 or the work is small, so ranks can run as threads of one process. Workspace is taken
// on the calling thread, before any region, and its sizes depend on shapes, dtypes, threads and the CPU alone.
#pragma once

#include <memory>

#include "runtime/arena.h"
#include "runtime/ops.h"

namespace trefoil::cpu {

struct GemmKernel;  // gemm.h
struct Bf16Kernel;  // bf16_block.h

struct CpuContext {
  Arena* arena = nullptr;
  int threads = 1;
  const GemmKernel* gemm = nullptr;  // the tile of matrix products that suits this CPU
  // Products of bf16 by instructions for them; null where there are none or float32's are preferred (Bf16Products).
  const Bf16Kernel* bf16 = nullptr;
  bool avx512 = false;               // whether loops run in their AVX-512 version
  // For the null device (runtime/devices/cpu.h): kernels take their workspace, give it back, and touch no element.
  bool dry = false;
};

// A tensor of scratch.
inline Tensor NewWorkspace(const CpuContext& cpu, DType dtype, const Shape& shape) {
  Arena::Block block =
      cpu.arena->Allocate(shape.elements() * static_cast<int64_t>(SizeOf(dtype)), Purpose::kWorkspace);
  return Tensor(std::move(block.owner), block.data, dtype, shape);
}

// Matrix products: our own in fp32 (gemm.h); oneDNN's in bf16 where cpu.bf16 says to use bf16 instructions. Otherwise bf16
// operands are converted and multiplied in fp32.
class MatmulEngine {
 public:
  MatmulEngine();
  ~MatmulEngine();
  void Matmul(const CpuContext& cpu, const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
              const Tensor& out, Accumulate accumulate, const Tensor& bias);
  // By oneDNN, in any dtype that it has on this CPU; no size is 0. Holds the compiled products, one per kind of call,
  // so that a training step, whose calls repeat, compiles none after its first run.
  void ByOneDnn(const CpuContext& cpu, const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
                const Tensor& out, Accumulate accumulate, const Tensor& bias);
  // What the compiled products take beside the arena, about: by their number, so a dry engine knows it too.
  int64_t compiled_bytes() const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;  // made by the first call that needs it
};

// cpu/float8.cc
void Quantize(const CpuContext& cpu, const Tensor& x, const Tensor& out, const Tensor& out_transposed,
              const Tensor& scale);
// out = scale * x, for fp8 x and bfloat16 out.
void FromFloat8(const CpuContext& cpu, const Tensor& x, const Tensor& scale, const Tensor& out);

// cpu/norm.cc
void LayerNorm(const CpuContext& cpu, const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon,
               const Tensor& y, const Tensor& mean, const Tensor& rstd);
void LayerNormBackward(const CpuContext& cpu, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& mean, const Tensor& rstd, const Tensor& d_residual, const Tensor& dx,
                       const Tensor& d_weight, const Tensor& d_bias);
void RmsNorm(const CpuContext& cpu, const HeadColumns& x, int64_t heads, const Tensor& weight, float epsilon,
             const HeadColumns& y, const Tensor& rstd);
void RmsNormBackward(const CpuContext& cpu, const HeadColumns& dy, const HeadColumns& x, int64_t heads,
                     const Tensor& weight, const Tensor& rstd, const Tensor& d_residual, const HeadColumns& dx,
                     const Tensor& d_weight);

// cpu/activation.cc
void Activate(const CpuContext& cpu, Activation activation, const Tensor& x, const Tensor& y);
void ActivateBackward(const CpuContext& cpu, Activation activation, const Tensor& dy, const Tensor& x, const Tensor& dx);
void GatedActivate(const CpuContext& cpu, Activation activation, const Tensor& gate_up, const Tensor& y);
void GatedActivateBackward(const CpuContext& cpu, Activation activation, const Tensor& dy, const Tensor& gate_up,
                           const Tensor& d_gate_up);

// cpu/rotary.cc
void Rotary(const CpuContext& cpu, const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
            const RotaryFrequencies& frequencies, bool inverse);

// cpu/attention.cc, cpu/attention_backward.cc; with cpu.bf16, tensors of bf16 by attention_bf16{,_backward}.cc
void Attention(const CpuContext& cpu, const AttentionHeads& in, const AttentionShape& shape,
               const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp);
void AttentionBackward(const CpuContext& cpu, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                       const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                       const AttentionHeads& gradients, Accumulate accumulate);

// cpu/merge_attention.cc
void MergeAttention(const CpuContext& cpu, const Tensor& out, const Tensor& log_sum_exp, const Tensor& part,
                    const Tensor& part_log_sum_exp);

// cpu/embedding.cc
void Embedding(const CpuContext& cpu, const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y,
               Accumulate accumulate);
void EmbeddingBackward(const CpuContext& cpu, const Tensor& ids, const Tensor& dy, int64_t first_row,
                       const Tensor& d_table);

// cpu/mean_pool.cc
void MeanPool(const CpuContext& cpu, const Tensor& x, int64_t tokens, const Tensor& lengths, int64_t first,
              const Tensor& y);
void MeanPoolBackward(const CpuContext& cpu, const Tensor& dy, int64_t tokens, const Tensor& lengths, int64_t first,
                      const Tensor& dx);

// cpu/recurrent_cell.cc
void RecurrentCell(const CpuContext& cpu, Cell cell, const Tensor& gates, const Tensor& c_before, const Tensor& h,
                   const Tensor& c);
void RecurrentCellBackward(const CpuContext& cpu, Cell cell, const Tensor& dh, const Tensor& dc, const Tensor& gates,
                           const Tensor& c_before, const Tensor& c, const Tensor& d_gates, const Tensor& d_c_before);

// cpu/cross_entropy.cc
void CrossEntropyStatistics(const CpuContext& cpu, const Tensor& logits, const Tensor& targets, int64_t first_column,
                            const Tensor& statistics);
void CrossEntropyCombine(const CpuContext& cpu, const Tensor& statistics, const Tensor& weights, const Tensor& loss,
                         const Tensor& log_sum_exp, const LabelSmoothing& smoothing, const Tensor& correct);
void CrossEntropyBackward(const CpuContext& cpu, const Tensor& logits, const Tensor& targets, const Tensor& weights,
                          const Tensor& log_sum_exp, int64_t first_column, float scale, const Tensor& d_logits,
                          const LabelSmoothing& smoothing);

// cpu/squared_error.cc
void SquaredError(const CpuContext& cpu, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                  const Tensor& loss);
void SquaredErrorBackward(const CpuContext& cpu, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                          float scale, const Tensor& d_prediction);

// cpu/elementwise.cc
void BiasBackward(const CpuContext& cpu, const Tensor& dy, const Tensor& d_bias);
void AddBias(const CpuContext& cpu, const Tensor& x, const Tensor& bias);
void Add(const CpuContext& cpu, const Tensor& a, const Tensor& b, const Tensor& out);
void Scale(const CpuContext& cpu, const Tensor& x, float factor, const Tensor& y);
void SumParts(const CpuContext& cpu, const Tensor& parts, const Tensor& out);
void Cast(const CpuContext& cpu, const Tensor& in, const Tensor& out);
void CopyColumns(const CpuContext& cpu, const HeadColumns& from, int64_t columns, const HeadColumns& to);
void Fill(const CpuContext& cpu, const Tensor& x, float value);

// cpu/exact_sum.cc
ExactSums Sums(const CpuContext& cpu, std::span<const Tensor> summed, std::span<const Tensor> squared);

// cpu/random.cc
void Dropout(const CpuContext& cpu, const Tensor& x, const DropoutMask& mask, const Tensor& y);
void FillNormal(const CpuContext& cpu, const Tensor& x, const Shape& global, const Shape& offset, uint64_t key,
                float deviation);

// cpu/adamw.cc
void AdamW(const CpuContext& cpu, std::span<const AdamWPart> parts, const AdamWStep& step);

}  // namespace trefoil::cpu
