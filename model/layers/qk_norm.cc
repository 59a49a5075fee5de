#include "model/layers/qk_norm.h"

namespace trefoil {
namespace {

constexpr char kQuery[] = ".q_norm.weight", kKey[] = ".k_norm.weight";

// Where queries and keys lie side by side.
AttentionHeads HeadsOf(const Tensor& x, const AttentionShape& shape) {
  return {.q = {x, 0}, .k = {x, shape.heads * shape.head_dim}, .v = {}};
}

}  // namespace

void QkNorm::Declare(int64_t head_dim, const std::string& prefix, int module, ParameterTable* table) {
  for (const char* name : {kQuery, kKey}) {
    table->Add({.name = prefix + name,
                .module = module,
                .shape = {head_dim},
                .summed_over = Axis::kTensor,
                .initial = Initial::kOnes});
  }
}

QkNorm::QkNorm(const ParameterStore& store, float epsilon, const std::string& prefix)
    : epsilon_(epsilon), q_(store.View({prefix + kQuery})), k_(store.View({prefix + kKey})) {}

void QkNorm::Forward(const Context& context, const AttentionShape& shape, const Tensor& qkv, Saved* saved) const {
  const int64_t rows = qkv.dim(0), columns = (shape.heads + shape.kv_heads) * shape.head_dim;
  saved->before = context.New({rows, columns});
  CopyColumns(context.device, {qkv, 0}, columns, {saved->before, 0});
  saved->q_rstd = context.NewFloat({rows, shape.heads});
  saved->k_rstd = context.NewFloat({rows, shape.kv_heads});
  const AttentionHeads from = HeadsOf(saved->before, shape), to = HeadsOf(qkv, shape);
  HeadRmsNorm(context.device, from.q, shape.heads, q_.weight(), epsilon_, to.q, saved->q_rstd);
  HeadRmsNorm(context.device, from.k, shape.kv_heads, k_.weight(), epsilon_, to.k, saved->k_rstd);
}

void QkNorm::Backward(const Context& context, const AttentionShape& shape, const Saved& saved,
                      const Tensor& d_qkv) const {
  const AttentionHeads x = HeadsOf(saved.before, shape), d = HeadsOf(d_qkv, shape);
  // The op makes it in any case.
  const auto gradient = [&](const ParameterView& view) {
    return view.trained() ? view.gradient() : context.NewFloat(view.shape());
  };
  HeadRmsNormBackward(context.device, d.q, x.q, shape.heads, q_.weight(), saved.q_rstd, d.q, gradient(q_));
  HeadRmsNormBackward(context.device, d.k, x.k, shape.kv_heads, k_.weight(), saved.k_rstd, d.k, gradient(k_));
}

}  // namespace trefoil
