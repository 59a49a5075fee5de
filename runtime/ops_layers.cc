// What layers do beside products: norms, activations, dropout, embedding, pooling, recurrent cells; attention is in
// ops_attention.cc, what heads end with in ops_losses.cc.
#include "runtime/op_run.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

// The names of an activation function's ops, and FLOPs for each element.
struct ActivationOps {
  const char *forward, *backward, *gated, *gated_backward;
  double flops, backward_flops;
};
const ActivationOps& OpsOf(Activation activation) {
  static constexpr ActivationOps kGelu = {"gelu", "gelu_backward", "geglu", "geglu_backward", 20, 30};
  static constexpr ActivationOps kGeluErf = {
      "gelu_erf", "gelu_erf_backward", "geglu_erf", "geglu_erf_backward", 36, 40};
  static constexpr ActivationOps kRelu = {"relu", "relu_backward", "reglu", "reglu_backward", 1, 1};
  static constexpr ActivationOps kSilu = {"silu", "silu_backward", "swiglu", "swiglu_backward", 17, 21};
  static constexpr ActivationOps kTanh = {"tanh", "tanh_backward", "gated_tanh", "gated_tanh_backward", 28, 31};
  switch (activation) {
    case Activation::kGelu:
      return kGelu;
    case Activation::kGeluErf:
      return kGeluErf;
    case Activation::kRelu:
      return kRelu;
    case Activation::kSilu:
      return kSilu;
    case Activation::kTanh:
      return kTanh;
  }
  LOG(FATAL) << "no such activation function";
}

// Of whole rows and of heads: their names and FLOPs for each element.
struct NormOp {
  const char* name;
  double flops;
};
constexpr NormOp kRmsNorm = {"rms_norm", 4}, kRmsNormBackward = {"rms_norm_backward", 11};

// x: of all rows; y: of one row for each sample.
void CheckPool(const char* x_name, const Tensor& x, int64_t tokens, const Tensor& lengths, int64_t first,
               const char* y_name, const Tensor& y) {
  CheckActivation(y_name, y, 2);
  Check(x_name, x, y.dtype(), {y.dim(0) * tokens, y.dim(1)});
  if (lengths.defined()) Check("lengths", lengths, DType::kInt32, {y.dim(0)});
  CHECK(0 <= first && first <= tokens) << "first row " << first << " of " << tokens;
}

// Those of kTanh are undefined.
void CheckCell(Cell cell, const char* name, const Tensor& tensor, const Shape& shape) {
  if (cell == Cell::kLstm) return Check(name, tensor, kFloat, shape);
  CHECK(!tensor.defined()) << name << " is defined, but the cell has no c";
}

}  // namespace

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
  Run(device, kRmsNorm.name, kRmsNorm.flops * x.elements(), Bytes({&x, &weight, &y, &rstd}),
      [&](Kernels& kernels) { kernels.RmsNorm({x, 0}, 1, weight, epsilon, {y, 0}, rstd); });
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
  Run(device, kRmsNormBackward.name, kRmsNormBackward.flops * x.elements(),
      Bytes({&dy, &x, &weight, &rstd, &d_residual, &dx, &d_weight, &d_weight}), [&](Kernels& kernels) {
        kernels.RmsNormBackward({dy, 0}, {x, 0}, 1, weight, rstd, d_residual, {dx, 0}, d_weight);
      });
}

void HeadRmsNorm(Device& device, const HeadColumns& x, int64_t heads, const Tensor& weight, float epsilon,
                 const HeadColumns& y, const Tensor& rstd) {
  const int64_t rows = x.rows.dim(0), head_dim = weight.dim(0);
  CheckActivation("weight", weight, 1);
  const double bytes = CheckHeads("x", x, weight.dtype(), rows, heads, head_dim) +
                       CheckHeads("y", y, weight.dtype(), rows, heads, head_dim);
  Check("rstd", rstd, kFloat, {rows, heads});
  Run(device, kRmsNorm.name, kRmsNorm.flops * static_cast<double>(rows * heads * head_dim),
      Bytes({&weight, &rstd}) + bytes,
      [&](Kernels& kernels) { kernels.RmsNorm(x, heads, weight, epsilon, y, rstd); });
}

void HeadRmsNormBackward(Device& device, const HeadColumns& dy, const HeadColumns& x, int64_t heads,
                         const Tensor& weight, const Tensor& rstd, const HeadColumns& dx, const Tensor& d_weight) {
  const int64_t rows = x.rows.dim(0), head_dim = weight.dim(0);
  CheckActivation("weight", weight, 1);
  const double bytes = CheckHeads("dy", dy, weight.dtype(), rows, heads, head_dim) +
                       CheckHeads("x", x, weight.dtype(), rows, heads, head_dim) +
                       CheckHeads("dx", dx, weight.dtype(), rows, heads, head_dim);
  Check("rstd", rstd, kFloat, {rows, heads});
  Check("d_weight", d_weight, kFloat, {head_dim});
  Run(device, kRmsNormBackward.name, kRmsNormBackward.flops * static_cast<double>(rows * heads * head_dim),
      Bytes({&weight, &rstd, &d_weight, &d_weight}) + bytes, [&](Kernels& kernels) {
        kernels.RmsNormBackward(dy, x, heads, weight, rstd, Tensor(), dx, d_weight);
      });
}

void Activate(Device& device, Activation activation, const Tensor& x, const Tensor& y) {
  CheckActivation("x", x, kAnyRank);
  Check("y", y, x.dtype(), x.shape());
  const ActivationOps& op = OpsOf(activation);
  Run(device, op.forward, op.flops * x.elements(), Bytes({&x, &y}),
      [&](Kernels& kernels) { kernels.Activate(activation, x, y); });
}

void ActivateBackward(Device& device, Activation activation, const Tensor& dy, const Tensor& x, const Tensor& dx) {
  CheckActivation("x", x, kAnyRank);
  Check("dy", dy, x.dtype(), x.shape());
  Check("dx", dx, x.dtype(), x.shape());
  const ActivationOps& op = OpsOf(activation);
  Run(device, op.backward, op.backward_flops * x.elements(), Bytes({&dy, &x, &dx}),
      [&](Kernels& kernels) { kernels.ActivateBackward(activation, dy, x, dx); });
}

void GatedActivate(Device& device, Activation activation, const Tensor& gate_up, const Tensor& y) {
  CheckActivation("y", y, 2);
  Check("gate_up", gate_up, y.dtype(), {y.dim(0), 2 * y.dim(1)});
  const ActivationOps& op = OpsOf(activation);
  Run(device, op.gated, (op.flops + 1) * y.elements(), Bytes({&gate_up, &y}),
      [&](Kernels& kernels) { kernels.GatedActivate(activation, gate_up, y); });
}

void GatedActivateBackward(Device& device, Activation activation, const Tensor& dy, const Tensor& gate_up,
                           const Tensor& d_gate_up) {
  CheckActivation("dy", dy, 2);
  Check("gate_up", gate_up, dy.dtype(), {dy.dim(0), 2 * dy.dim(1)});
  Check("d_gate_up", d_gate_up, dy.dtype(), gate_up.shape());
  const ActivationOps& op = OpsOf(activation);
  Run(device, op.gated_backward, (op.backward_flops + 3) * dy.elements(), Bytes({&dy, &gate_up, &d_gate_up}),
      [&](Kernels& kernels) { kernels.GatedActivateBackward(activation, dy, gate_up, d_gate_up); });
}

void Dropout(Device& device, const Tensor& x, const DropoutMask& mask, const Tensor& y) {
  CheckActivation("x", x, 2);
  Check("y", y, x.dtype(), x.shape());
  CheckProbability(mask.probability);
  CHECK_GE(mask.rows_together, 0);
  if (mask.probability > 0 && mask.rows_together == 0) CHECK_EQ(mask.global_columns, x.dim(1));
  if (mask.length > 0) CHECK_GT(mask.tokens.tokens(), 0);
  Run(device, "dropout", x.elements(), Bytes({&x, &y}), [&](Kernels& kernels) { kernels.Dropout(x, mask, y); });
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
  if (!d_table.defined()) return;
  CheckActivation("dy", dy, 2);
  Check("ids", ids, DType::kInt32, {dy.dim(0)});
  CheckActivation("d_table", d_table, 2);
  Check("d_table", d_table, kFloat, {d_table.dim(0), dy.dim(1)});
  Run(device, "embedding_backward", dy.elements(), Bytes({&ids, &dy}) + 8.0 * dy.elements(),
      [&](Kernels& kernels) { kernels.EmbeddingBackward(ids, dy, first_row, d_table); });
}

void MeanPool(Device& device, const Tensor& x, int64_t tokens, const Tensor& lengths, int64_t first, const Tensor& y) {
  CheckPool("x", x, tokens, lengths, first, "y", y);
  Run(device, "mean_pool", x.elements(), Bytes({&x, &lengths, &y}),
      [&](Kernels& kernels) { kernels.MeanPool(x, tokens, lengths, first, y); });
}

void MeanPoolBackward(Device& device, const Tensor& dy, int64_t tokens, const Tensor& lengths, int64_t first,
                      const Tensor& dx) {
  CheckPool("dx", dx, tokens, lengths, first, "dy", dy);
  Run(device, "mean_pool_backward", dx.elements(), Bytes({&dy, &lengths, &dx}),
      [&](Kernels& kernels) { kernels.MeanPoolBackward(dy, tokens, lengths, first, dx); });
}

void RecurrentCell(Device& device, Cell cell, const Tensor& gates, const Tensor& c_before, const Tensor& h,
                   const Tensor& c) {
  CheckActivation("h", h, 2);
  const bool lstm = cell == Cell::kLstm;
  Check("gates", gates, kFloat, {h.dim(0), (lstm ? 4 : 1) * h.dim(1)});
  CheckCell(cell, "c_before", c_before, h.shape());
  CheckCell(cell, "c", c, h.shape());
  Run(device, lstm ? "lstm_cell" : "tanh_cell", (lstm ? 108.0 : 28.0) * h.elements(),
      Bytes({&gates, &gates, &c_before, &h, &c}),
      [&](Kernels& kernels) { kernels.RecurrentCell(cell, gates, c_before, h, c); });
}

void RecurrentCellBackward(Device& device, Cell cell, const Tensor& dh, const Tensor& dc, const Tensor& gates,
                           const Tensor& c_before, const Tensor& c, const Tensor& d_gates, const Tensor& d_c_before) {
  CheckActivation("dh", dh, 2);
  Check("dh", dh, kFloat, dh.shape());
  const bool lstm = cell == Cell::kLstm;
  const Shape wide = {dh.dim(0), (lstm ? 4 : 1) * dh.dim(1)};
  Check("gates", gates, kFloat, wide);
  if (dc.defined()) CheckCell(cell, "dc", dc, dh.shape());
  CheckCell(cell, "c_before", c_before, dh.shape());
  CheckCell(cell, "c", c, dh.shape());
  Check("d_gates", d_gates, kFloat, wide);
  CheckCell(cell, "d_c_before", d_c_before, dh.shape());
  Run(device, lstm ? "lstm_cell_backward" : "tanh_cell_backward", (lstm ? 52.0 : 3.0) * dh.elements(),
      Bytes({&dh, &dc, &gates, &c_before, &c, &d_gates, &d_c_before}), [&](Kernels& kernels) {
        kernels.RecurrentCellBackward(cell, dh, dc, gates, c_before, c, d_gates, d_c_before);
      });
}

}  // namespace trefoil
