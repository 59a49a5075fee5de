// Every operation that a device performs. Each checks shapes and dtypes (CHECK: a wrong shape is our bug), counts itself
// (Device::Observe), and runs the device's kernel.
//
// Letters: N rows (B x T tokens, or a rank's share of them), C hidden, H query heads, K key/value heads, D head dim,
// F feed-forward, V this rank's part of the vocabulary, B batch, T tokens of a sequence.
// "activation dtype": float32 or bfloat16, the same for all activations and weights of one call; statistics and weight
// gradients are float32 always. Sums over more than a few elements are kept in fp32 (or better) whatever the dtype.
// Rules: weight gradients are added to (`+=`), activation gradients are overwritten (`=`). An output may be the same
// tensor as an input only where "in place" is said. No op allocates anything that outlives it.
// Order of addition inside an op depends only on shapes and not on the number of threads.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/attention.h"
#include "runtime/device.h"
#include "runtime/exact_sum.h"
#include "runtime/rotary.h"
#include "runtime/tensor.h"

namespace trefoil {

// ---- activation functions ----

enum class Activation {
  kGelu,     // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016)
  kGeluErf,  // x Phi(x) = 0.5 x (1 + erf(x / sqrt(2))), which kGelu comes near to (the same)
  kRelu,     // max(x, 0), of slope 0 at 0 (Nair & Hinton 2010)
  kSilu,     // x sigmoid(x) (Elfwing et al. 2018)
  kTanh,
};
// y = activation(x). Any shape; in place allowed.
void Activate(Device& device, Activation activation, const Tensor& x, const Tensor& y);
// dx = dy * activation'(x); in place (dx is dy) allowed.
void ActivateBackward(Device& device, Activation activation, const Tensor& dy, const Tensor& x, const Tensor& dx);
// y = activation(gate) * up: SwiGLU with kSilu, GEGLU with either GELU, ReGLU with kRelu (Shazeer 2020).
// gate_up: [N, 2F], gate in columns [0, F), up in [F, 2F); y: [N, F].
void GatedActivate(Device& device, Activation activation, const Tensor& gate_up, const Tensor& y);
// d_gate_up: [N, 2F]. In place (d_gate_up is gate_up) allowed.
void GatedActivateBackward(Device& device, Activation activation, const Tensor& dy, const Tensor& gate_up,
                           const Tensor& d_gate_up);

// ---- matrices ----

enum class Transpose : bool { kNo = false, kYes = true };
enum class Accumulate : bool { kNo = false, kYes = true };

// out = op(a) op(b) [+ bias], or out += ... with kYes.  op(a): [M, K], op(b): [K, N], out: [M, N].
// a and b: one activation dtype; out: that dtype or float32 (accumulation only into float32). bias: [N] in the
// activation dtype, or not defined. A linear layer y = x W^T + b with W [out, in], its dx = dy W, and its dW += dy^T x.
void Matmul(Device& device, const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
            const Tensor& out, Accumulate accumulate = Accumulate::kNo, const Tensor& bias = {});

// Products with what stands next to them in a network; on GPUs in one pass over the result where the library can. There
// the element-wise part sees the product before it is rounded to the activation dtype. Of the activation functions the
// library knows kGelu; with another, the two below are a Matmul, an Activate or its backward and a BiasBackward, and
// observed as these.

// before = a b^T + bias, out = activation(before).  a: [M, K]; b: [N, K], a linear layer's weight; bias: [N] or not
// defined; before (for the backward), out: [M, N]; all of one activation dtype.
void MatmulActivate(Device& device, Activation activation, const Tensor& a, const Tensor& b, const Tensor& bias,
                    const Tensor& before, const Tensor& out);
// dx = (dy weight) * activation'(before), the gradient of `before` where y = activation(before) weight^T; and
// d_bias[j] += sum over rows of dx[i][j], which on GPUs may be rounded once to dx's dtype.
// dy: [M, K]; weight: [K, N]; before, dx: [M, N]; d_bias: [N] float32, or not defined.
void MatmulActivateBackward(Device& device, Activation activation, const Tensor& dy, const Tensor& weight,
                            const Tensor& before, const Tensor& dx, const Tensor& d_bias);
// d_weight += dy^T x, d_bias[j] += sum over rows of dy[i][j].  dy: [M, N]; x: [M, K]; d_weight: [N, K] float32;
// d_bias: [N] float32. Either may be undefined: nobody wants it.
void WeightGradient(Device& device, const Tensor& dy, const Tensor& x, const Tensor& d_weight, const Tensor& d_bias);

// d_bias[j] += sum over rows of dy[i][j].  dy: [N, C]; d_bias: [C] float32, or not defined: nothing happens.
void BiasBackward(Device& device, const Tensor& dy, const Tensor& d_bias);
// x[i][j] += bias[j], in place.  x: [N, C]; bias: [C].
void AddBias(Device& device, const Tensor& x, const Tensor& bias);

// ---- fp8 ----  Tensors of the fp8 dtypes (runtime/dtype.h) with one scale for all: an element stands for
// scale * element.

// scale: [1] float32, on the device: the least power of two, and at least 2^-126, with which no element of x is above
// the largest value of the format (per-tensor current scaling); 1 where x is all zeros; NaN where an element is not
// finite, so that every product with x is NaN. out = x / scale, rounded; out_transposed: the same, transposed.
// x: [R, C]; out: [R, C], out_transposed: [C, R], in one fp8 dtype; either may be not defined.
// As a power of two a scale leaves the bits of an element's mantissa alone: a rank's slice of a tensor may have another
// scale than the whole, and its elements still round as they do in the whole, but for those below the format's smallest
// normal value (about 2^-14 of the largest element in e4m3, 2^-29 in e5m2).
void Quantize(Device& device, const Tensor& x, const Tensor& out, const Tensor& out_transposed, const Tensor& scale);
// out = a b^T * a_scale * b_scale [+ bias], or out += ... with kYes, added in float32.  a: [M, K]; b: [N, K]; both fp8,
// not both e5m2; out: [M, N] bfloat16, or float32 (accumulation only into float32); bias: [N] bfloat16, or not defined.
// N and K are multiples of 16, and inner dims lie side by side: what tensor cores take.
void MatmulFloat8(Device& device, const Tensor& a, const Tensor& a_scale, const Tensor& b, const Tensor& b_scale,
                  const Tensor& out, Accumulate accumulate = Accumulate::kNo, const Tensor& bias = {});

// ---- norms ----  x, y, dx, dy: [N, C]; weight, bias: [C]; mean, rstd: [N] float32; d_weight, d_bias: [C] float32.

// y = (x - mean) * rstd * weight + bias, with mean and rstd = 1/sqrt(variance + epsilon) of each row
// (Ba, Kiros & Hinton 2016). Statistics are written out for the backward.
void LayerNorm(Device& device, const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon,
               const Tensor& y, const Tensor& mean, const Tensor& rstd);
// dx = d_residual + the gradient through the norm (d_residual may be undefined: zero; dx may be d_residual or dy,
// in place); d_weight, d_bias +=.
void LayerNormBackward(Device& device, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean,
                       const Tensor& rstd, const Tensor& d_residual, const Tensor& dx, const Tensor& d_weight,
                       const Tensor& d_bias);
// y = x * rstd * weight with rstd = 1/sqrt(mean of squares + epsilon) (Zhang & Sennrich 2019).
void RmsNorm(Device& device, const Tensor& x, const Tensor& weight, float epsilon, const Tensor& y,
             const Tensor& rstd);
// As LayerNormBackward.
void RmsNormBackward(Device& device, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                     const Tensor& d_residual, const Tensor& dx, const Tensor& d_weight);
// The same of each of `heads` heads of D columns by itself, with one weight [D] for all (Dehghani et al. 2023 norm queries
// and keys so). x.rows, y.rows, dx.rows, dy.rows: [N, ...], whose other columns stay; rstd: [N, heads]. In place (y is x,
// dx is dy) allowed.
void HeadRmsNorm(Device& device, const HeadColumns& x, int64_t heads, const Tensor& weight, float epsilon,
                 const HeadColumns& y, const Tensor& rstd);
void HeadRmsNormBackward(Device& device, const HeadColumns& dy, const HeadColumns& x, int64_t heads,
                         const Tensor& weight, const Tensor& rstd, const HeadColumns& dx, const Tensor& d_weight);

// ---- attention ----

// Which elements to drop: element i (an index in the global tensor) is dropped when Uniform(key, i) < probability; the
// others are divided by 1 - probability. probability 0: nothing happens. With rows_together rows share their fate, and
// i = global row / rows_together: the T rows of a sample for stochastic depth (Huang et al. 2016).
struct DropoutMask {
  float probability = 0;
  uint64_t key = 0;
  int64_t first_row = 0;       // global number of this tensor's row 0; with `length` that among the rows of `tokens`
  int64_t global_columns = 0;  // of the global tensor; element index = row * global_columns + column
  int64_t rows_together = 0;   // 0: every element for itself; n > 0: rows 0 .. n-1 as one, n .. 2n-1 as one, ...
  // Where a tensor has rows of some tokens of each sample only: which, of a sample's `length` rows. length 0: of all.
  TokenRanges tokens = {};
  int64_t length = 0;

  int64_t GlobalRow(int64_t row) const {
    const int64_t here = first_row + row;
    return length == 0 ? here : here / tokens.tokens() * length + tokens.Position(here % tokens.tokens());
  }
};
// y = dropped-out x.  x, y: [N, C] with C = global_columns (not looked at with rows_together); in place allowed. The
// backward is the same call on dy.
void Dropout(Device& device, const Tensor& x, const DropoutMask& mask, const Tensor& y);

// Turns pairs (x[i], x[i + D/2]) of each of `heads` heads by position * frequency i (runtime/rotary.h; the split-half
// pairing of the Llama checkpoints), times the magnitude, in place. x.rows: [B*T, ...], T = tokens.tokens(); row r is the
// position tokens.Position(r % T). inverse: turns back (the backward).
void Rotary(Device& device, const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
            const RotaryFrequencies& frequencies, bool inverse);

// softmax(scale q k^T + bias) v over the keys that a query sees (runtime/attention.h), in blocks that never hold
// Tq x Tk for more than a head (Dao et al. 2022); scale is 1 / sqrt(D) unless the shape has another. out: [B*Tq, H*D];
// log_sum_exp: [B, H, Tq] float32, saved for the backward. A query that sees no key has an output of 0 and a
// log_sum_exp of -infinity. FLOPs are counted as if no key were padding or of another document: lengths and starts are
// not known here.
void Attention(Device& device, const AttentionHeads& in, const AttentionShape& shape, const AttentionDropout& dropout,
               const Tensor& out, const Tensor& log_sum_exp);
// The gradients of what in.q, in.k and in.v are, every column of those heads written, 0 for keys that nobody sees; with
// kYes added to. Their dtype is that of `in`, or float32; with kYes float32. gradients.bias, where it is defined, is a
// weight's gradient: added to, always. Where keys came in parts, each part has a call of its own, with the merged `out`
// and `log_sum_exp` of all parts; the parts' gradients of q add up.
void AttentionBackward(Device& device, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                       const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                       const AttentionHeads& gradients, Accumulate accumulate = Accumulate::kNo);
// Attention over the keys of two parts, of which no key is in both, in place of the first part:
//
//   out += sigmoid(part_log_sum_exp - log_sum_exp) * (part - out)
//   log_sum_exp = log(exp(log_sum_exp) + exp(part_log_sum_exp))
//
// computed in float32. A part whose log_sum_exp is -infinity changes nothing, whatever its output.
// out, part: [B*T, H*D], each in an activation dtype of its own (who merges several keeps `out` in float32);
// log_sum_exp, part_log_sum_exp: [B, H, T] float32.
void MergeAttention(Device& device, const Tensor& out, const Tensor& log_sum_exp, const Tensor& part,
                    const Tensor& part_log_sum_exp);

// ---- embedding ----

// y[i] = table[ids[i] - first_row], or zeros where ids[i] is outside [first_row, first_row + rows): another rank has it.
// With kYes, adds to y instead.  ids: [N] int32; table: [rows, C]; y: [N, C].
void Embedding(Device& device, const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y,
               Accumulate accumulate = Accumulate::kNo);
// d_table[ids[i] - first_row] += dy[i], in order of i.  d_table: float32, or not defined: nothing happens.
void EmbeddingBackward(Device& device, const Tensor& ids, const Tensor& dy, int64_t first_row, const Tensor& d_table);

// ---- pooling ----

// y[b] = the mean over rows [first, lengths[b]) of sample b, 0 where there is none: a class token, which stands first, may
// be left out, padding is not looked at.  x: [B*T, C], T = tokens; lengths: [B] int32 in [0, T], or not defined: T each;
// 0 <= first <= T; y: [B, C], dtype of x.
void MeanPool(Device& device, const Tensor& x, int64_t tokens, const Tensor& lengths, int64_t first, const Tensor& y);
// dx: [B*T, C], all of it written; 0 in rows that were left out.
void MeanPoolBackward(Device& device, const Tensor& dy, int64_t tokens, const Tensor& lengths, int64_t first,
                      const Tensor& dx);

// ---- recurrent cells ----  H hidden units; gates: [B, H] for kTanh, [B, 4H] for kLstm, in columns i f g o as in PyTorch;
// h, [B, H], has the activation dtype, everything else, [B, H] too, float32.

enum class Cell {
  kTanh,  // h = tanh(gates) (Elman 1990)
  // i, f, o = sigmoid(gates), g = tanh(gates), c = f * c_before + i * g, h = o * tanh(c)
  // (Hochreiter & Schmidhuber 1997, with the forget gate f of Gers, Schmidhuber & Cummins 2000)
  kLstm,
};
// The element-wise part of a time step. gates: their sums of products and biases before, activated after, in place, for
// the backward. c_before, c: of kLstm only, else not defined.
void RecurrentCell(Device& device, Cell cell, const Tensor& gates, const Tensor& c_before, const Tensor& h,
                   const Tensor& c);
// The gradients of the gates' sums and of c_before, from those of h and of c (not defined: 0) and the activated gates.
// In place allowed: d_gates is gates, d_c_before is dc. dc, c_before, c, d_c_before: of kLstm only, else not defined.
void RecurrentCellBackward(Device& device, Cell cell, const Tensor& dh, const Tensor& dc, const Tensor& gates,
                           const Tensor& c_before, const Tensor& c, const Tensor& d_gates, const Tensor& d_c_before);

// ---- cross-entropy over a split vocabulary ----

// Label smoothing (Szegedy et al. 2016, section 7): of the target's weight, `share` goes to the V - 1 other tokens of the
// whole vocabulary, to each the same.
//   loss = weight * ((1 - share - each) * nll + each * sum over all tokens j of -log p_j),  each = share / (V - 1)
struct LabelSmoothing {
  float share = 0;         // in [0, 1); 0: none
  int64_t vocabulary = 0;  // V of all parts together, at least 2 where there is a share
  float each() const { return share > 0 ? share / static_cast<float>(vocabulary - 1) : 0.0f; }
};

// Per row of this rank's logits [N, V] (float32): statistics [N, 3] float32 = (maximum m, sum of exp(logit - m), logit
// of the target, or 0 if another rank has it), and for label smoothing [N, 4], the fourth being the sum of the logits.
// Column j is token first_column + j. targets: [N] int32. V may be 0: then m is -infinity and the sums 0.
void CrossEntropyStatistics(Device& device, const Tensor& logits, const Tensor& targets, int64_t first_column,
                            const Tensor& statistics);
// Combines the statistics of all parts [parts, N, 3], or [parts, N, 4] as label smoothing needs them, in order of part:
// log_sum_exp [N], loss [N] = weight * nll, nll = log_sum_exp - target logit; both float32. weights: [N] float32, or
// not defined: all 1. With weight 0 the loss is 0, whatever the logits and the target.
// correct: [N] float32, or not defined: 1 where no logit is larger than the target's and the weight is above 0, else 0.
void CrossEntropyCombine(Device& device, const Tensor& statistics, const Tensor& weights, const Tensor& loss,
                         const Tensor& log_sum_exp, const LabelSmoothing& smoothing = {}, const Tensor& correct = {});
// d_logits = scale * weight * (softmax(logits) - (1 - share - each) onehot(target) - each), 0 with weight 0;
// d_logits: [N, V] in either activation dtype, in place allowed where float32. weights as above.
void CrossEntropyBackward(Device& device, const Tensor& logits, const Tensor& targets, const Tensor& weights,
                          const Tensor& log_sum_exp, int64_t first_column, float scale, const Tensor& d_logits,
                          const LabelSmoothing& smoothing = {});

// ---- squared error ----  prediction: [N, P], P >= 1, activation dtype; target: [N, P] float32; weights: [N] float32, or
// not defined: all 1. With weight 0 the results are 0, whatever the values.

// loss[i] = weight * mean over the columns of (prediction - target)^2.  loss: [N] float32.
void SquaredError(Device& device, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                  const Tensor& loss);
// d_prediction = scale * weight * 2/P * (prediction - target); in place (d_prediction is prediction) allowed.
void SquaredErrorBackward(Device& device, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                          float scale, const Tensor& d_prediction);

// ---- element-wise and reductions ----

// out = a + b, any shape, one dtype; in place allowed.
void Add(Device& device, const Tensor& a, const Tensor& b, const Tensor& out);
// y = factor * x, any shape, one dtype; in place allowed.
void Scale(Device& device, const Tensor& x, float factor, const Tensor& y);
// out = the sum over `parts` [P, n], in float32; out: [n], dtype of parts. The one place where sums over ranks are
// added, in the one order of addition: neighbours first (0 + 1, 2 + 3, ...; an odd last one moves up as it is), then
// neighbours of these sums, and so on. So the sum of 2^k parts in a row is the same whether they are parts here or were
// added before.
// 1 <= P < 2^kSumPartsLevels: kernels keep a sum for each level of that tree.
inline constexpr int kSumPartsLevels = 14;
void SumParts(Device& device, const Tensor& parts, const Tensor& out);
// out = in, converted.
void Cast(Device& device, const Tensor& in, const Tensor& out);
// to.rows[i][to.first + j] = from.rows[i][from.first + j] for every row and j < columns, converted; the other columns
// of to.rows stay. from.rows, to.rows: [N, ...] each, two tensors.
void CopyColumns(Device& device, const HeadColumns& from, int64_t columns, const HeadColumns& to);
// x = value everywhere (float dtypes).
void Fill(Device& device, const Tensor& x, float value);
// The sum of all elements of the tensors `summed`, and the sum of the squares of those of `squared`, exact and so the
// same in whatever tensors the elements are (runtime/exact_sum.h). Waits for the device, once. 0 on the null device.
struct ExactSums {
  ExactSum sum, sum_of_squares;
};
ExactSums Sums(Device& device, std::span<const Tensor> summed, std::span<const Tensor> squared);
// Of one tensor, the same way, rounded.
double Sum(Device& device, const Tensor& x);
double SumOfSquares(Device& device, const Tensor& x);

// ---- parameters ----

// x[i] = deviation * Normal(key, element), where x holds the box `extent` at `offset` of a row-major global tensor of
// shape `global` (all three of x's rank; x float32), so that every slice gets the values the whole tensor would have.
void FillNormal(Device& device, const Tensor& x, const Shape& global, const Shape& offset, uint64_t key,
                float deviation);

// What one AdamW step updates with one weight decay: all [n]; weight (master), gradient, m, v float32.
// working: the weight in the activation dtype for the layers, written too; or undefined.
struct AdamWPart {
  Tensor weight, gradient, m, v, working;
  float weight_decay = 0;
};
struct AdamWStep {
  float learning_rate = 0, beta1 = 0, beta2 = 0, epsilon = 0;
  int64_t step = 1;          // t of the bias corrections, from 1
  float gradient_scale = 1;  // applied to the gradient first (clipping)
};
// AdamW (Loshchilov & Hutter 2019, algorithm 2), one pass over all parts; their working copies are of one dtype.
//   g = gradient * gradient_scale;  m = beta1 m + (1-beta1) g;  v = beta2 v + (1-beta2) g^2;
//   weight -= learning_rate * (m / (1-beta1^t) / (sqrt(v / (1-beta2^t)) + epsilon) + weight_decay * weight).
void AdamW(Device& device, std::span<const AdamWPart> parts, const AdamWStep& step);

}  // namespace trefoil
