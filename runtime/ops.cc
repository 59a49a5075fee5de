#include "runtime/ops.h"

#include <chrono>

#include "runtime/kernels.h"
#include "runtime/op_journal.h"

namespace trefoil {
namespace {

// What an op moves.
struct Traffic {
  double bytes = 0;
  DType dtype = DType::kFloat32;
};
Traffic operator+(Traffic traffic, double bytes) { return {traffic.bytes + bytes, traffic.dtype}; }

// Bytes of each operand once; an undefined tensor has none.
Traffic Bytes(std::initializer_list<const Tensor*> operands) {
  Traffic traffic;
  bool found = false;
  for (const Tensor* operand : operands) {
    if (!operand->defined()) continue;
    traffic.bytes += static_cast<double>(operand->bytes());
    if (!found && operand->dtype() != DType::kInt32) {
      traffic.dtype = operand->dtype();
      found = true;
    }
  }
  return traffic;
}

// Runs `kernel` and, if anyone observes, reports it. Only then is the clock read and the device waited for.
template <typename Kernel>
void Run(Device& device, const char* op, double flops, const Traffic& traffic, const Kernel& kernel,
         const OpCount::Product& product = {}) {
  NoteOp(op);
  if (!device.observer()) {
    kernel(device.kernels());
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  kernel(device.kernels());
  double seconds = 0;
  if (device.computes()) {
    device.Synchronize();
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  device.observer()(OpCount{op, flops, traffic.bytes, seconds, traffic.dtype, product}, start);
}

// A product of [m, k] and [k, n].
template <typename Kernel>
void RunProduct(Device& device, const char* op, int64_t m, int64_t n, int64_t k, const Traffic& traffic,
                const Kernel& kernel) {
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  Run(device, op, flops, traffic, kernel, {.rows = m, .columns = n, .inner = k});
}

void Check(const char* name, const Tensor& tensor, DType dtype, const Shape& shape) {
  CHECK(tensor.defined()) << name << " is undefined";
  CHECK(tensor.dtype() == dtype) << name << " is " << Name(tensor.dtype()) << ", must be " << Name(dtype);
  CHECK(tensor.shape() == shape) << name << " is " << tensor.shape() << ", must be " << shape;
}

void CheckActivation(const char* name, const Tensor& tensor, int rank) {
  CHECK(tensor.defined()) << name << " is undefined";
  CHECK(tensor.dtype() == DType::kFloat32 || tensor.dtype() == DType::kBFloat16)
      << name << " is " << Name(tensor.dtype()) << ", must be float32 or bfloat16";
  CHECK(rank < 0 || tensor.shape().rank() == rank) << name << " is " << tensor.shape() << ", must have rank " << rank;
}
constexpr int kAnyRank = -1;
constexpr DType kFloat = DType::kFloat32;

void CheckFloat8(const char* name, const Tensor& tensor) {
  CHECK(tensor.defined()) << name << " is undefined";
  CHECK(IsFloat8(tensor.dtype())) << name << " is " << Name(tensor.dtype()) << ", must be fp8";
  CHECK_EQ(tensor.shape().rank(), 2) << name << " is " << tensor.shape();
}

void CheckProbability(float probability) {
  CHECK(probability >= 0 && probability < 1) << "dropout probability " << probability << ", must be in [0, 1)";
}

void CheckAttention(const Tensor& qkv, const AttentionShape& shape, const AttentionDropout& dropout) {
  CHECK_GT(shape.heads, 0);
  CHECK_GT(shape.kv_heads, 0);
  CHECK_GT(shape.head_dim, 0);
  CHECK_EQ(shape.heads % shape.kv_heads, 0) << "query heads must be a multiple of key/value heads";
  CheckActivation("qkv", qkv, 2);
  Check("qkv", qkv, qkv.dtype(), {shape.batch * shape.tokens, shape.columns()});
  CheckProbability(dropout.mask.probability);
  if (dropout.mask.probability > 0) {
    CHECK_EQ(dropout.mask.first_row % shape.tokens, 0) << "dropout must start with a sequence";
    CHECK_LE(dropout.first_head + shape.heads, dropout.global_heads);
  }
}

// A causal q k^T or p v of all heads: half of T x T x D multiply-adds.
double AttentionProduct(const AttentionShape& shape) {
  return static_cast<double>(shape.batch) * shape.heads * shape.tokens * shape.tokens * shape.head_dim;
}

}  // namespace

void Matmul(Device& device, const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
            const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  CheckActivation("a", a, 2);
  const bool ta = transpose_a == Transpose::kYes, tb = transpose_b == Transpose::kYes;
  const int64_t m = a.dim(ta ? 1 : 0), k = a.dim(ta ? 0 : 1);
  CheckActivation("b", b, 2);
  const int64_t n = b.dim(tb ? 0 : 1);
  Check("b", b, a.dtype(), tb ? Shape{n, k} : Shape{k, n});
  CheckActivation("out", out, 2);
  Check("out", out, out.dtype() == kFloat ? kFloat : a.dtype(), {m, n});
  CHECK(accumulate == Accumulate::kNo || out.dtype() == kFloat) << "accumulation is only into float32";
  if (bias.defined()) Check("bias", bias, a.dtype(), {n});
  const double read = accumulate == Accumulate::kYes ? out.bytes() : 0;
  RunProduct(device, "matmul", m, n, k, Bytes({&a, &b, &out, &bias}) + read,
      [&](Kernels& kernels) { kernels.Matmul(a, transpose_a, b, transpose_b, out, accumulate, bias); });
}

void MatmulGelu(Device& device, const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& before,
                const Tensor& out) {
  CheckActivation("a", a, 2);
  CheckActivation("b", b, 2);
  const int64_t m = a.dim(0), k = a.dim(1), n = b.dim(0);
  Check("b", b, a.dtype(), {n, k});
  if (bias.defined()) Check("bias", bias, a.dtype(), {n});
  Check("before", before, a.dtype(), {m, n});
  Check("out", out, a.dtype(), {m, n});
  RunProduct(device, "matmul_gelu", m, n, k, Bytes({&a, &b, &bias, &before, &out}),
      [&](Kernels& kernels) { kernels.MatmulGelu(a, b, bias, before, out); });
}

void MatmulGeluBackward(Device& device, const Tensor& dy, const Tensor& weight, const Tensor& before, const Tensor& dx,
                        const Tensor& d_bias) {
  CheckActivation("dy", dy, 2);
  CheckActivation("weight", weight, 2);
  const int64_t m = dy.dim(0), k = dy.dim(1), n = weight.dim(1);
  Check("weight", weight, dy.dtype(), {k, n});
  Check("before", before, dy.dtype(), {m, n});
  Check("dx", dx, dy.dtype(), {m, n});
  if (d_bias.defined()) Check("d_bias", d_bias, kFloat, {n});
  RunProduct(device, "matmul_gelu_backward", m, n, k, Bytes({&dy, &weight, &before, &dx, &d_bias, &d_bias}),
      [&](Kernels& kernels) { kernels.MatmulGeluBackward(dy, weight, before, dx, d_bias); });
}

void WeightGradient(Device& device, const Tensor& dy, const Tensor& x, const Tensor& d_weight, const Tensor& d_bias) {
  CheckActivation("dy", dy, 2);
  CheckActivation("x", x, 2);
  const int64_t m = dy.dim(0), n = dy.dim(1), k = x.dim(1);
  Check("x", x, dy.dtype(), {m, k});
  Check("d_weight", d_weight, kFloat, {n, k});
  if (d_bias.defined()) Check("d_bias", d_bias, kFloat, {n});
  RunProduct(device, "weight_gradient", m, n, k, Bytes({&dy, &x, &d_weight, &d_weight, &d_bias, &d_bias}),
      [&](Kernels& kernels) { kernels.WeightGradient(dy, x, d_weight, d_bias); });
}

void Quantize(Device& device, const Tensor& x, const Tensor& out, const Tensor& out_transposed, const Tensor& scale) {
  CheckActivation("x", x, 2);
  const Tensor& either = out.defined() ? out : out_transposed;
  CheckFloat8("out", either);
  if (out.defined()) Check("out", out, either.dtype(), x.shape());
  if (out_transposed.defined()) Check("out_transposed", out_transposed, either.dtype(), {x.dim(1), x.dim(0)});
  Check("scale", scale, kFloat, {1});
  Run(device, "quantize", 2.0 * x.elements(), Bytes({&x, &x, &out, &out_transposed, &scale}),
      [&](Kernels& kernels) { kernels.Quantize(x, out, out_transposed, scale); });
}

void MatmulFloat8(Device& device, const Tensor& a, const Tensor& a_scale, const Tensor& b, const Tensor& b_scale,
                  const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  CheckFloat8("a", a);
  CheckFloat8("b", b);
  CHECK(a.dtype() != DType::kFloat8E5M2 || b.dtype() != DType::kFloat8E5M2) << "a or b must be e4m3";
  const int64_t m = a.dim(0), k = a.dim(1), n = b.dim(0);
  Check("b", b, b.dtype(), {n, k});
  CHECK(n % 16 == 0 && k % 16 == 0) << "b is " << b.shape() << ", both must be multiples of 16";
  Check("a_scale", a_scale, kFloat, {1});
  Check("b_scale", b_scale, kFloat, {1});
  CheckActivation("out", out, 2);
  Check("out", out, out.dtype(), {m, n});
  CHECK(accumulate == Accumulate::kNo || out.dtype() == kFloat) << "accumulation is only into float32";
  if (bias.defined()) Check("bias", bias, DType::kBFloat16, {n});
  const double read = accumulate == Accumulate::kYes ? out.bytes() : 0;
  RunProduct(device, "matmul_float8", m, n, k, Bytes({&a, &a_scale, &b, &b_scale, &out, &bias}) + read,
      [&](Kernels& kernels) { kernels.MatmulFloat8(a, a_scale, b, b_scale, out, accumulate, bias); });
}

void BiasBackward(Device& device, const Tensor& dy, const Tensor& d_bias) {
  CheckActivation("dy", dy, 2);
  Check("d_bias", d_bias, kFloat, {dy.dim(1)});
  Run(device, "bias_backward", dy.elements(), Bytes({&dy, &d_bias, &d_bias}),
      [&](Kernels& kernels) { kernels.BiasBackward(dy, d_bias); });
}

void AddBias(Device& device, const Tensor& x, const Tensor& bias) {
  CheckActivation("x", x, 2);
  Check("bias", bias, x.dtype(), {x.dim(1)});
  Run(device, "add_bias", x.elements(), Bytes({&x, &x, &bias}), [&](Kernels& kernels) { kernels.AddBias(x, bias); });
}

void LayerNorm(Device& device, const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon,
               const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  CheckActivation("x", x, 2);
  Check("weight", weight, x.dtype(), {x.dim(1)});
  Check("bias", bias, x.dtype(), {x.dim(1)});
  Check("y", y, x.dtype(), x.shape());
  Check("mean", mean, kFloat, {x.dim(0)});
  Check("rstd", rstd, kFloat, {x.dim(0)});
  Run(device, "layer_norm", 8.0 * x.elements(), Bytes({&x, &weight, &bias, &y, &mean, &rstd}),
      [&](Kernels& kernels) { kernels.LayerNorm(x, weight, bias, epsilon, y, mean, rstd); });
}

void LayerNormBackward(Device& device, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean,
                       const Tensor& rstd, const Tensor& d_residual, const Tensor& dx, const Tensor& d_weight,
                       const Tensor& d_bias) {
  CheckActivation("x", x, 2);
  Check("dy", dy, x.dtype(), x.shape());
  Check("weight", weight, x.dtype(), {x.dim(1)});
  Check("mean", mean, kFloat, {x.dim(0)});
  Check("rstd", rstd, kFloat, {x.dim(0)});
  if (d_residual.defined()) Check("d_residual", d_residual, x.dtype(), x.shape());
  Check("dx", dx, x.dtype(), x.shape());
  Check("d_weight", d_weight, kFloat, {x.dim(1)});
  Check("d_bias", d_bias, kFloat, {x.dim(1)});
  Run(device, "layer_norm_backward", 16.0 * x.elements(),
      Bytes({&dy, &x, &weight, &mean, &rstd, &d_residual, &dx, &d_weight, &d_bias, &d_weight, &d_bias}),
      [&](Kernels& kernels) {
        kernels.LayerNormBackward(dy, x, weight, mean, rstd, d_residual, dx, d_weight, d_bias);
      });
}

void RmsNorm(Device& device, const Tensor& x, const Tensor& weight, float epsilon, const Tensor& y,
             const Tensor& rstd) {
  CheckActivation("x", x, 2);
  Check("weight", weight, x.dtype(), {x.dim(1)});
  Check("y", y, x.dtype(), x.shape());
  Check("rstd", rstd, kFloat, {x.dim(0)});
  Run(device, "rms_norm", 4.0 * x.elements(), Bytes({&x, &weight, &y, &rstd}),
      [&](Kernels& kernels) { kernels.RmsNorm(x, weight, epsilon, y, rstd); });
}

void RmsNormBackward(Device& device, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                     const Tensor& d_residual, const Tensor& dx, const Tensor& d_weight) {
  CheckActivation("x", x, 2);
  Check("dy", dy, x.dtype(), x.shape());
  Check("weight", weight, x.dtype(), {x.dim(1)});
  Check("rstd", rstd, kFloat, {x.dim(0)});
  if (d_residual.defined()) Check("d_residual", d_residual, x.dtype(), x.shape());
  Check("dx", dx, x.dtype(), x.shape());
  Check("d_weight", d_weight, kFloat, {x.dim(1)});
  Run(device, "rms_norm_backward", 11.0 * x.elements(),
      Bytes({&dy, &x, &weight, &rstd, &d_residual, &dx, &d_weight, &d_weight}),
      [&](Kernels& kernels) { kernels.RmsNormBackward(dy, x, weight, rstd, d_residual, dx, d_weight); });
}

void Gelu(Device& device, const Tensor& x, const Tensor& y) {
  CheckActivation("x", x, kAnyRank);
  Check("y", y, x.dtype(), x.shape());
  Run(device, "gelu", 20.0 * x.elements(), Bytes({&x, &y}), [&](Kernels& kernels) { kernels.Gelu(x, y); });
}

void GeluBackward(Device& device, const Tensor& dy, const Tensor& x, const Tensor& dx) {
  CheckActivation("x", x, kAnyRank);
  Check("dy", dy, x.dtype(), x.shape());
  Check("dx", dx, x.dtype(), x.shape());
  Run(device, "gelu_backward", 30.0 * x.elements(), Bytes({&dy, &x, &dx}),
      [&](Kernels& kernels) { kernels.GeluBackward(dy, x, dx); });
}

void SwiGlu(Device& device, const Tensor& gate_up, const Tensor& y) {
  CheckActivation("y", y, 2);
  Check("gate_up", gate_up, y.dtype(), {y.dim(0), 2 * y.dim(1)});
  Run(device, "swiglu", 18.0 * y.elements(), Bytes({&gate_up, &y}),
      [&](Kernels& kernels) { kernels.SwiGlu(gate_up, y); });
}

void SwiGluBackward(Device& device, const Tensor& dy, const Tensor& gate_up, const Tensor& d_gate_up) {
  CheckActivation("dy", dy, 2);
  Check("gate_up", gate_up, dy.dtype(), {dy.dim(0), 2 * dy.dim(1)});
  Check("d_gate_up", d_gate_up, dy.dtype(), gate_up.shape());
  Run(device, "swiglu_backward", 24.0 * dy.elements(), Bytes({&dy, &gate_up, &d_gate_up}),
      [&](Kernels& kernels) { kernels.SwiGluBackward(dy, gate_up, d_gate_up); });
}

void Dropout(Device& device, const Tensor& x, const DropoutMask& mask, const Tensor& y) {
  CheckActivation("x", x, 2);
  Check("y", y, x.dtype(), x.shape());
  CheckProbability(mask.probability);
  if (mask.probability > 0) CHECK_EQ(mask.global_columns, x.dim(1));
  Run(device, "dropout", x.elements(), Bytes({&x, &y}), [&](Kernels& kernels) { kernels.Dropout(x, mask, y); });
}

void Rotary(Device& device, const Tensor& qkv, const AttentionShape& shape, float theta, bool inverse) {
  CheckAttention(qkv, shape, {});
  CHECK_EQ(shape.head_dim % 2, 0) << "rotary needs an even head dim";
  CHECK_GT(theta, 0);
  const double turned = static_cast<double>(qkv.dim(0)) * (shape.heads + shape.kv_heads) * shape.head_dim;
  Run(device, "rotary", 3 * turned, {2 * turned * SizeOf(qkv.dtype()), qkv.dtype()},
      [&](Kernels& kernels) { kernels.Rotary(qkv, shape, theta, inverse); });
}

void Attention(Device& device, const Tensor& qkv, const AttentionShape& shape, const AttentionDropout& dropout,
               const Tensor& out, const Tensor& log_sum_exp) {
  CheckAttention(qkv, shape, dropout);
  Check("out", out, qkv.dtype(), {qkv.dim(0), shape.heads * shape.head_dim});
  Check("log_sum_exp", log_sum_exp, kFloat, {shape.batch, shape.heads, shape.tokens});
  Run(device, "attention", 2 * AttentionProduct(shape), Bytes({&qkv, &out, &log_sum_exp}),
      [&](Kernels& kernels) { kernels.Attention(qkv, shape, dropout, out, log_sum_exp); });
}

void AttentionBackward(Device& device, const Tensor& d_out, const Tensor& qkv, const Tensor& out,
                       const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                       const Tensor& d_qkv) {
  CheckAttention(qkv, shape, dropout);
  Check("out", out, qkv.dtype(), {qkv.dim(0), shape.heads * shape.head_dim});
  Check("d_out", d_out, qkv.dtype(), out.shape());
  Check("log_sum_exp", log_sum_exp, kFloat, {shape.batch, shape.heads, shape.tokens});
  Check("d_qkv", d_qkv, qkv.dtype(), qkv.shape());
  Run(device, "attention_backward", 5 * AttentionProduct(shape), Bytes({&d_out, &qkv, &out, &log_sum_exp, &d_qkv}),
      [&](Kernels& kernels) { kernels.AttentionBackward(d_out, qkv, out, log_sum_exp, shape, dropout, d_qkv); });
}

void Embedding(Device& device, const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y,
               Accumulate accumulate) {
  CheckActivation("table", table, 2);
  CheckActivation("y", y, 2);
  Check("y", y, table.dtype(), {y.dim(0), table.dim(1)});
  Check("ids", ids, DType::kInt32, {y.dim(0)});
  const bool add = accumulate == Accumulate::kYes;
  Run(device, "embedding", add ? y.elements() : 0, Bytes({&ids, &y, &y}) + (add ? y.bytes() : 0),
      [&](Kernels& kernels) { kernels.Embedding(ids, table, first_row, y, accumulate); });
}

void EmbeddingBackward(Device& device, const Tensor& ids, const Tensor& dy, int64_t first_row, const Tensor& d_table) {
  CheckActivation("dy", dy, 2);
  Check("ids", ids, DType::kInt32, {dy.dim(0)});
  CheckActivation("d_table", d_table, 2);
  Check("d_table", d_table, kFloat, {d_table.dim(0), dy.dim(1)});
  Run(device, "embedding_backward", dy.elements(), Bytes({&ids, &dy}) + 8.0 * dy.elements(),
      [&](Kernels& kernels) { kernels.EmbeddingBackward(ids, dy, first_row, d_table); });
}

void CrossEntropyStatistics(Device& device, const Tensor& logits, const Tensor& targets, int64_t first_column,
                            const Tensor& statistics) {
  CheckActivation("logits", logits, 2);
  Check("logits", logits, kFloat, logits.shape());
  Check("targets", targets, DType::kInt32, {logits.dim(0)});
  Check("statistics", statistics, kFloat, {logits.dim(0), 3});
  Run(device, "cross_entropy_statistics", 12.0 * logits.elements(), Bytes({&logits, &targets, &statistics}),
      [&](Kernels& kernels) { kernels.CrossEntropyStatistics(logits, targets, first_column, statistics); });
}

void CrossEntropyCombine(Device& device, const Tensor& statistics, const Tensor& loss, const Tensor& log_sum_exp) {
  CheckActivation("statistics", statistics, 3);
  Check("statistics", statistics, kFloat, {statistics.dim(0), statistics.dim(1), 3});
  CHECK_GE(statistics.dim(0), 1);
  Check("loss", loss, kFloat, {statistics.dim(1)});
  Check("log_sum_exp", log_sum_exp, kFloat, {statistics.dim(1)});
  Run(device, "cross_entropy_combine", 5.0 * statistics.elements(), Bytes({&statistics, &loss, &log_sum_exp}),
      [&](Kernels& kernels) { kernels.CrossEntropyCombine(statistics, loss, log_sum_exp); });
}

void CrossEntropyBackward(Device& device, const Tensor& logits, const Tensor& targets, const Tensor& log_sum_exp,
                          int64_t first_column, float scale, const Tensor& d_logits) {
  CheckActivation("logits", logits, 2);
  Check("logits", logits, kFloat, logits.shape());
  Check("targets", targets, DType::kInt32, {logits.dim(0)});
  Check("log_sum_exp", log_sum_exp, kFloat, {logits.dim(0)});
  CheckActivation("d_logits", d_logits, 2);
  Check("d_logits", d_logits, d_logits.dtype(), logits.shape());
  Run(device, "cross_entropy_backward", 12.0 * logits.elements(), Bytes({&logits, &targets, &log_sum_exp, &d_logits}),
      [&](Kernels& kernels) {
        kernels.CrossEntropyBackward(logits, targets, log_sum_exp, first_column, scale, d_logits);
      });
}

void Add(Device& device, const Tensor& a, const Tensor& b, const Tensor& out) {
  CheckActivation("a", a, kAnyRank);
  Check("b", b, a.dtype(), a.shape());
  Check("out", out, a.dtype(), a.shape());
  Run(device, "add", a.elements(), Bytes({&a, &b, &out}), [&](Kernels& kernels) { kernels.Add(a, b, out); });
}

void SumParts(Device& device, const Tensor& parts, const Tensor& out) {
  CheckActivation("parts", parts, 2);
  CHECK_GE(parts.dim(0), 1);
  Check("out", out, parts.dtype(), {parts.dim(1)});
  Run(device, "sum_parts", parts.elements(), Bytes({&parts, &out}),
      [&](Kernels& kernels) { kernels.SumParts(parts, out); });
}

void Cast(Device& device, const Tensor& in, const Tensor& out) {
  CheckActivation("in", in, kAnyRank);
  CheckActivation("out", out, kAnyRank);
  Check("out", out, out.dtype(), in.shape());
  Run(device, "cast", 0, Bytes({&in, &out}), [&](Kernels& kernels) { kernels.Cast(in, out); });
}

void Fill(Device& device, const Tensor& x, float value) {
  CheckActivation("x", x, kAnyRank);
  Run(device, "fill", 0, Bytes({&x}), [&](Kernels& kernels) { kernels.Fill(x, value); });
}

namespace {

TwoSums AddUp(Device& device, const char* op, std::span<const Tensor> summed, std::span<const Tensor> squared) {
  double flops = 0, bytes = 0;
  for (const Tensor& x : summed) {
    CheckActivation("summed", x, kAnyRank);
    flops += static_cast<double>(x.elements());
    bytes += Bytes({&x}).bytes;
  }
  for (const Tensor& x : squared) {
    CheckActivation("squared", x, kAnyRank);
    flops += 2.0 * static_cast<double>(x.elements());
    bytes += Bytes({&x}).bytes;
  }
  TwoSums sums;
  Run(device, op, flops, {bytes}, [&](Kernels& kernels) { sums = kernels.Sums(summed, squared); });
  return sums;
}

}  // namespace

TwoSums Sums(Device& device, std::span<const Tensor> summed, std::span<const Tensor> squared) {
  return AddUp(device, "sums", summed, squared);
}

double Sum(Device& device, const Tensor& x) { return AddUp(device, "sum", {&x, 1}, {}).sum; }

double SumOfSquares(Device& device, const Tensor& x) {
  return AddUp(device, "sum_of_squares", {}, {&x, 1}).sum_of_squares;
}

void FillNormal(Device& device, const Tensor& x, const Shape& global, const Shape& offset, uint64_t key,
                float deviation) {
  Check("x", x, kFloat, x.shape());
  CHECK_EQ(global.rank(), x.shape().rank());
  CHECK_EQ(offset.rank(), x.shape().rank());
  for (int i = 0; i < global.rank(); ++i) {
    CHECK_LE(offset[i] + x.dim(i), global[i]) << "slice " << x.shape() << " at " << offset << " of " << global;
  }
  Run(device, "fill_normal", 0, Bytes({&x}),
      [&](Kernels& kernels) { kernels.FillNormal(x, global, offset, key, deviation); });
}

void AdamW(Device& device, std::span<const AdamWPart> parts, const AdamWStep& step) {
  const Tensor* working = nullptr;  // of the first part that has one
  double flops = 0, bytes = 0;
  for (const AdamWPart& part : parts) {
    const Shape& shape = part.weight.shape();
    CheckActivation("weight", part.weight, 1);
    Check("weight", part.weight, kFloat, shape);
    Check("gradient", part.gradient, kFloat, shape);
    Check("m", part.m, kFloat, shape);
    Check("v", part.v, kFloat, shape);
    if (part.working.defined()) {
      CheckActivation("working", part.working, 1);
      if (working == nullptr) working = &part.working;
      Check("working", part.working, working->dtype(), shape);
    }
    flops += 15.0 * static_cast<double>(part.weight.elements());
    bytes += Bytes({&part.weight, &part.weight, &part.gradient, &part.m, &part.m, &part.v, &part.v, &part.working})
                 .bytes;
  }
  CHECK_GE(step.step, 1);
  Run(device, "adamw", flops, {bytes}, [&](Kernels& kernels) { kernels.AdamW(parts, step); });
}

}  // namespace trefoil
