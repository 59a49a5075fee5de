#include "model/layers/residual.h"

namespace trefoil {
namespace {

std::string NormName(const Residual::Place& place) { return place.block + "." + place.branch + "_norm"; }

}  // namespace

void Residual::Declare(const ModelConfig& config, const Place& place, ParameterTable* table) {
  Norm::Declare(config, NormName(place), place.module, table);
}

Residual::Residual(const ParameterStore& store, const ModelConfig& config, const Place& place)
    : place_(place),
      norm_first_(RecipeOf(config).norm_place == Recipe::NormPlace::kBefore),
      dropout_(config.dropout()),
      norm_(store, config, NormName(place)) {}

DropoutMask Residual::Elements(const Context& context, const MicroBatch& batch, int64_t columns) const {
  return MaskOf(context, batch, dropout_, place_.block + "." + place_.branch, columns, place_.side);
}

DropoutMask Residual::Around(const Context& context, const MicroBatch& batch, int64_t columns) const {
  DropoutMask mask = MaskOf(context, batch, place_.around, place_.block + "." + place_.branch + ".around", columns,
                            place_.side);
  mask.rows_together = batch.of(place_.side).length;
  return mask;
}

Tensor Residual::Sum(const Context& context, const MicroBatch& batch, const Tensor& x, const Tensor& branch) const {
  for (const DropoutMask& mask :
       {Elements(context, batch, branch.dim(1)), Around(context, batch, branch.dim(1))}) {
    if (mask.probability > 0) Dropout(context.device, branch, mask, branch);
  }
  Add(context.device, x, branch, branch);
  return branch;
}

Tensor Residual::BranchGradient(const Context& context, const MicroBatch& batch, const Tensor& d_sum) const {
  Tensor d_branch = d_sum;
  for (const DropoutMask& mask : {Elements(context, batch, d_sum.dim(1)), Around(context, batch, d_sum.dim(1))}) {
    if (mask.probability == 0) continue;
    const Tensor dropped = context.New(d_sum.shape());
    Dropout(context.device, d_branch, mask, dropped);
    d_branch = dropped;
  }
  return d_branch;
}

Tensor Residual::Forward(const Context& context, const MicroBatch& batch, const Tensor& x, Saved* saved,
                         const Branch& branch) const {
  const auto inspect = [&](const std::string& name, const Tensor& value) {
    context.Inspect(Pass::kForward, place_.module, place_.block + "." + place_.branch, name.c_str(), value);
  };
  saved->h = norm_first_ ? norm_.Forward(context, x, &saved->norm) : x;
  if (norm_first_) inspect("_norm", saved->h);
  const Tensor made = branch(saved->h);
  inspect("", made);
  const Tensor sum = Sum(context, batch, x, made);
  if (norm_first_) return sum;
  const Tensor y = norm_.Forward(context, sum, &saved->norm);
  inspect("_norm", y);
  return y;
}

Tensor Residual::Backward(const Context& context, const MicroBatch& batch, const Tensor& dy, const Saved& saved,
                          const Branch& branch) const {
  const auto inspect = [&](const char* name, const Tensor& gradient) {
    context.Inspect(Pass::kBackward, place_.module, place_.block + "." + place_.branch, name, gradient);
  };
  const Tensor d_sum = norm_first_ ? dy : norm_.Backward(context, dy, saved.norm, Tensor());
  if (!norm_first_) inspect("_norm", d_sum);
  const Tensor dh = branch(BranchGradient(context, batch, d_sum));
  inspect("", dh);
  if (!norm_first_) {
    // Into a tensor of its own: queued weight gradients may still want both.
    const Tensor dx = context.New(dh.shape());
    Add(context.device, dh, d_sum, dx);
    return dx;
  }
  const Tensor dx = norm_.Backward(context, dh, saved.norm, d_sum);
  inspect("_norm", dx);
  return dx;
}

void Residual::Forget(Saved* saved) const {
  if (norm_first_) saved->h = Tensor();
}

void Residual::Recompute(const Context& context, Saved* saved) const {
  if (!norm_first_) return;
  const Tensor x = saved->norm.x;
  saved->h = norm_.Forward(context, x, &saved->norm);
}

}  // namespace trefoil
