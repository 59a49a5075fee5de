// What a device must be able to compute: one virtual function per op of runtime/ops.h, with the op's arguments less the
// device. Shapes and dtypes have been checked when a kernel is called, so a kernel checks nothing; sizes of zero are
// legal and must work. The mathematics and the rules (what is overwritten, what is added to, what may alias) are in
// runtime/ops.h and nowhere else.
//
// To add an op: declare it in ops.h, check and count it in ops.cc, add a line here; the compiler then asks every device
// for its kernel.
//
// Threads: the rank's main thread calls kernels, and the thread of its gradient reduction calls those of sums, casts and
// copies at the same time (runtime/device.h).
#pragma once

#include "runtime/ops.h"

namespace trefoil {

class Kernels {
 public:
  virtual ~Kernels() = default;
  // Bytes that compiled kernels take beside the arena.
  virtual int64_t CompiledBytes() const { return 0; }

  virtual void Activate(Activation activation, const Tensor& x, const Tensor& y) = 0;
  virtual void ActivateBackward(Activation activation, const Tensor& dy, const Tensor& x, const Tensor& dx) = 0;
  virtual void GatedActivate(Activation activation, const Tensor& gate_up, const Tensor& y) = 0;
  virtual void GatedActivateBackward(Activation activation, const Tensor& dy, const Tensor& gate_up,
                                     const Tensor& d_gate_up) = 0;

  virtual void Matmul(const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b, const Tensor& out,
                      Accumulate accumulate, const Tensor& bias) = 0;
  // MatmulActivate with kGelu, and its backward.
  virtual void MatmulGelu(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& before,
                          const Tensor& out) = 0;
  virtual void MatmulGeluBackward(const Tensor& dy, const Tensor& weight, const Tensor& before, const Tensor& dx,
                                  const Tensor& d_bias) = 0;
  virtual void WeightGradient(const Tensor& dy, const Tensor& x, const Tensor& d_weight, const Tensor& d_bias) = 0;
  virtual void Quantize(const Tensor& x, const Tensor& out, const Tensor& out_transposed, const Tensor& scale) = 0;
  virtual void MatmulFloat8(const Tensor& a, const Tensor& a_scale, const Tensor& b, const Tensor& b_scale,
                            const Tensor& out, Accumulate accumulate, const Tensor& bias) = 0;
  virtual void BiasBackward(const Tensor& dy, const Tensor& d_bias) = 0;
  virtual void AddBias(const Tensor& x, const Tensor& bias) = 0;

  virtual void LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon, const Tensor& y,
                         const Tensor& mean, const Tensor& rstd) = 0;
  virtual void LayerNormBackward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean,
                                 const Tensor& rstd, const Tensor& d_residual, const Tensor& dx, const Tensor& d_weight,
                                 const Tensor& d_bias) = 0;
  // RmsNorm, of rows that are one head, and HeadRmsNorm, with `heads` of them; D is the weight's.
  virtual void RmsNorm(const HeadColumns& x, int64_t heads, const Tensor& weight, float epsilon, const HeadColumns& y,
                       const Tensor& rstd) = 0;
  // d_residual: [N, D], or not defined, as it is with more than one head.
  virtual void RmsNormBackward(const HeadColumns& dy, const HeadColumns& x, int64_t heads, const Tensor& weight,
                               const Tensor& rstd, const Tensor& d_residual, const HeadColumns& dx,
                               const Tensor& d_weight) = 0;

  virtual void Dropout(const Tensor& x, const DropoutMask& mask, const Tensor& y) = 0;
  virtual void Rotary(const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
                      const RotaryFrequencies& frequencies, bool inverse) = 0;
  virtual void Attention(const AttentionHeads& in, const AttentionShape& shape, const AttentionDropout& dropout,
                         const Tensor& out, const Tensor& log_sum_exp) = 0;
  virtual void AttentionBackward(const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                                 const Tensor& log_sum_exp, const AttentionShape& shape,
                                 const AttentionDropout& dropout, const AttentionHeads& gradients,
                                 Accumulate accumulate) = 0;
  virtual void MergeAttention(const Tensor& out, const Tensor& log_sum_exp, const Tensor& part,
                              const Tensor& part_log_sum_exp) = 0;

  virtual void Embedding(const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y,
                         Accumulate accumulate) = 0;
  virtual void EmbeddingBackward(const Tensor& ids, const Tensor& dy, int64_t first_row, const Tensor& d_table) = 0;

  virtual void MeanPool(const Tensor& x, int64_t tokens, const Tensor& lengths, int64_t first, const Tensor& y) = 0;
  virtual void MeanPoolBackward(const Tensor& dy, int64_t tokens, const Tensor& lengths, int64_t first,
                                const Tensor& dx) = 0;

  virtual void RecurrentCell(Cell cell, const Tensor& gates, const Tensor& c_before, const Tensor& h,
                             const Tensor& c) = 0;
  virtual void RecurrentCellBackward(Cell cell, const Tensor& dh, const Tensor& dc, const Tensor& gates,
                                     const Tensor& c_before, const Tensor& c, const Tensor& d_gates,
                                     const Tensor& d_c_before) = 0;

  virtual void CrossEntropyStatistics(const Tensor& logits, const Tensor& targets, int64_t first_column,
                                      const Tensor& statistics) = 0;
  virtual void CrossEntropyCombine(const Tensor& statistics, const Tensor& weights, const Tensor& loss,
                                   const Tensor& log_sum_exp, const LabelSmoothing& smoothing,
                                   const Tensor& correct) = 0;
  virtual void CrossEntropyBackward(const Tensor& logits, const Tensor& targets, const Tensor& weights,
                                    const Tensor& log_sum_exp, int64_t first_column, float scale,
                                    const Tensor& d_logits, const LabelSmoothing& smoothing) = 0;

  virtual void SquaredError(const Tensor& prediction, const Tensor& target, const Tensor& weights,
                            const Tensor& loss) = 0;
  virtual void SquaredErrorBackward(const Tensor& prediction, const Tensor& target, const Tensor& weights, float scale,
                                    const Tensor& d_prediction) = 0;

  virtual void Add(const Tensor& a, const Tensor& b, const Tensor& out) = 0;
  virtual void Scale(const Tensor& x, float factor, const Tensor& y) = 0;
  virtual void SumParts(const Tensor& parts, const Tensor& out) = 0;
  virtual void Cast(const Tensor& in, const Tensor& out) = 0;
  virtual void CopyColumns(const HeadColumns& from, int64_t columns, const HeadColumns& to) = 0;
  virtual void Fill(const Tensor& x, float value) = 0;
  virtual ExactSums Sums(std::span<const Tensor> summed, std::span<const Tensor> squared) = 0;

  virtual void FillNormal(const Tensor& x, const Shape& global, const Shape& offset, uint64_t key, float deviation) = 0;
  virtual void AdamW(std::span<const AdamWPart> parts, const AdamWStep& step) = 0;
};

}  // namespace trefoil
