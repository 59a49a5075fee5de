// The CUDA device's kernels, one file per kind: cuda/NAME.cu, the twin of cpu/NAME.cc. What each computes is said in
// runtime/ops.h; what differs from the CPU is the order of additions inside a sum, which here too depends on shapes only.
//
// Each takes a CudaContext first and queues its work on `stream`; the call returns before the work is done. Only
// Sums waits. Workspace comes from the arena: a block that a kernel gives back may be handed out again at
// once, because what uses it next is queued behind on the same stream.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "runtime/arena.h"
#include "runtime/ops.h"

namespace trefoil::cuda {

struct CudaContext {
  Arena* arena = nullptr;
  cudaStream_t stream = nullptr;
  int multiprocessors = 1;
};

// Ends the program with the call, its place, the GPU, its message and the last ops queued, unless `error` is success.
#define TREFOIL_CUDA(call) ::trefoil::cuda::Check((call), #call, __FILE__, __LINE__)
void Check(cudaError_t error, const char* call, const char* file, int line);

class Blas;  // cuda_blas.h

// cuda/matmul.cu: products by cuBLASLt, with what follows them fused where it can.
class MatmulEngine {
 public:
  MatmulEngine();
  ~MatmulEngine();
  void Matmul(const CudaContext& cuda, const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
              const Tensor& out, Accumulate accumulate, const Tensor& bias);
  void MatmulGelu(const CudaContext& cuda, const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& before,
                  const Tensor& out);
  void MatmulGeluBackward(const CudaContext& cuda, const Tensor& dy, const Tensor& weight, const Tensor& before,
                          const Tensor& dx, const Tensor& d_bias);
  void WeightGradient(const CudaContext& cuda, const Tensor& dy, const Tensor& x, const Tensor& d_weight,
                      const Tensor& d_bias);
  void MatmulFloat8(const CudaContext& cuda, const Tensor& a, const Tensor& a_scale, const Tensor& b,
                    const Tensor& b_scale, const Tensor& out, Accumulate accumulate, const Tensor& bias);

 private:
  const std::unique_ptr<Blas> blas_;
};

// cuda/float8.cu
void Quantize(const CudaContext& cuda, const Tensor& x, const Tensor& out, const Tensor& out_transposed,
              const Tensor& scale);

// cuda/norm.cu
void LayerNorm(const CudaContext& cuda, const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon,
               const Tensor& y, const Tensor& mean, const Tensor& rstd);
void LayerNormBackward(const CudaContext& cuda, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& mean, const Tensor& rstd, const Tensor& d_residual, const Tensor& dx,
                       const Tensor& d_weight, const Tensor& d_bias);
void RmsNorm(const CudaContext& cuda, const HeadColumns& x, int64_t heads, const Tensor& weight, float epsilon,
             const HeadColumns& y, const Tensor& rstd);
void RmsNormBackward(const CudaContext& cuda, const HeadColumns& dy, const HeadColumns& x, int64_t heads,
                     const Tensor& weight, const Tensor& rstd, const Tensor& d_residual, const HeadColumns& dx,
                     const Tensor& d_weight);

// cuda/activation.cu
void Activate(const CudaContext& cuda, Activation activation, const Tensor& x, const Tensor& y);
void ActivateBackward(const CudaContext& cuda, Activation activation, const Tensor& dy, const Tensor& x, const Tensor& dx);
void GatedActivate(const CudaContext& cuda, Activation activation, const Tensor& gate_up, const Tensor& y);
void GatedActivateBackward(const CudaContext& cuda, Activation activation, const Tensor& dy, const Tensor& gate_up,
                           const Tensor& d_gate_up);

// cuda/rotary.cu
void Rotary(const CudaContext& cuda, const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
            const RotaryFrequencies& frequencies, bool inverse);

// cuda/attention.cu, cuda/attention_backward.cu, cuda/attention_bias.cu
void Attention(const CudaContext& cuda, const AttentionHeads& in, const AttentionShape& shape,
               const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp);
void AttentionBackward(const CudaContext& cuda, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                       const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                       const AttentionHeads& gradients, Accumulate accumulate);

// cuda/merge_attention.cu
void MergeAttention(const CudaContext& cuda, const Tensor& out, const Tensor& log_sum_exp, const Tensor& part,
                    const Tensor& part_log_sum_exp);

// attention_cudnn.cc: bf16 attention by cuDNN's flash attention, whose plans are made once per shape; the statistics mean
// the same as those of the functions above. Each function returns false, having done nothing, where cuDNN has no kernel
// for the call: dropout, what CudnnTakesAttention (devices/cuda.h) leaves out, a causal mask over other tokens than one
// range with itself, lengths, a scale of its own, a bias, gradients in float32.
enum class AttentionPass;
class CudnnAttention {
 public:
  // deterministic: the backward adds in the same order each time, in workspace that grows with T x T.
  explicit CudnnAttention(bool deterministic);
  ~CudnnAttention();
  bool Forward(const CudaContext& cuda, const AttentionHeads& in, const AttentionShape& shape,
               const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp);
  bool Backward(const CudaContext& cuda, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                const AttentionHeads& gradients, Accumulate accumulate);

 private:
  struct Compiled;
  const AttentionPass backward_;
  const std::unique_ptr<Compiled> compiled_;
};

// cuda/embedding.cu
void Embedding(const CudaContext& cuda, const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y,
               Accumulate accumulate);
void EmbeddingBackward(const CudaContext& cuda, const Tensor& ids, const Tensor& dy, int64_t first_row,
                       const Tensor& d_table);

// cuda/mean_pool.cu
void MeanPool(const CudaContext& cuda, const Tensor& x, int64_t tokens, const Tensor& lengths, int64_t first,
              const Tensor& y);
void MeanPoolBackward(const CudaContext& cuda, const Tensor& dy, int64_t tokens, const Tensor& lengths, int64_t first,
                      const Tensor& dx);

// cuda/recurrent_cell.cu
void RecurrentCell(const CudaContext& cuda, Cell cell, const Tensor& gates, const Tensor& c_before, const Tensor& h,
                   const Tensor& c);
void RecurrentCellBackward(const CudaContext& cuda, Cell cell, const Tensor& dh, const Tensor& dc, const Tensor& gates,
                           const Tensor& c_before, const Tensor& c, const Tensor& d_gates, const Tensor& d_c_before);

// cuda/cross_entropy.cu
void CrossEntropyStatistics(const CudaContext& cuda, const Tensor& logits, const Tensor& targets, int64_t first_column,
                            const Tensor& statistics);
void CrossEntropyCombine(const CudaContext& cuda, const Tensor& statistics, const Tensor& weights, const Tensor& loss,
                         const Tensor& log_sum_exp, const LabelSmoothing& smoothing, const Tensor& correct);
void CrossEntropyBackward(const CudaContext& cuda, const Tensor& logits, const Tensor& targets, const Tensor& weights,
                          const Tensor& log_sum_exp, int64_t first_column, float scale, const Tensor& d_logits,
                          const LabelSmoothing& smoothing);

// cuda/squared_error.cu
void SquaredError(const CudaContext& cuda, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                  const Tensor& loss);
void SquaredErrorBackward(const CudaContext& cuda, const Tensor& prediction, const Tensor& target,
                          const Tensor& weights, float scale, const Tensor& d_prediction);

// cuda/elementwise.cu
void BiasBackward(const CudaContext& cuda, const Tensor& dy, const Tensor& d_bias);
void AddBias(const CudaContext& cuda, const Tensor& x, const Tensor& bias);
void Add(const CudaContext& cuda, const Tensor& a, const Tensor& b, const Tensor& out);
void Scale(const CudaContext& cuda, const Tensor& x, float factor, const Tensor& y);
void SumParts(const CudaContext& cuda, const Tensor& parts, const Tensor& out);
void Cast(const CudaContext& cuda, const Tensor& in, const Tensor& out);
void CopyColumns(const CudaContext& cuda, const HeadColumns& from, int64_t columns, const HeadColumns& to);
void Fill(const CudaContext& cuda, const Tensor& x, float value);

// cuda/exact_sum.cu
ExactSums Sums(const CudaContext& cuda, std::span<const Tensor> summed, std::span<const Tensor> squared);

// cuda/random.cu
void Dropout(const CudaContext& cuda, const Tensor& x, const DropoutMask& mask, const Tensor& y);
void FillNormal(const CudaContext& cuda, const Tensor& x, const Shape& global, const Shape& offset, uint64_t key,
                float deviation);

// cuda/adamw.cu
void AdamW(const CudaContext& cuda, std::span<const AdamWPart> parts, const AdamWStep& step);

}  // namespace trefoil::cuda
