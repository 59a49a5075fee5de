#include "model/block.h"

namespace trefoil {
namespace {

std::string Prefix(int layer) { return "blocks." + std::to_string(layer); }

}  // namespace

void Block::Declare(const ModelConfig& config, int layer, int module, ParameterTable* table) {
  const std::string prefix = Prefix(layer);
  Norm::Declare(config, prefix + ".attention_norm", module, table);
  SelfAttention::Declare(config, prefix + ".attention", module, table);
  Norm::Declare(config, prefix + ".mlp_norm", module, table);
  Mlp::Declare(config, prefix + ".mlp", module, table);
}

double Block::FlopsPerToken(const ModelConfig& config, int64_t sequence_length) {
  ParameterTable table;
  Declare(config, 0, 0, &table);
  const double width = static_cast<double>(config.heads()) * config.head_dim();
  return 6 * static_cast<double>(table.elements()) + 6 * width * static_cast<double>(sequence_length);
}

Block::Block(const ParameterStore& store, const ModelConfig& config, int layer, int module)
    : prefix_(Prefix(layer)),
      module_(module),
      dropout_(config.dropout()),
      norm1_(store, config, prefix_ + ".attention_norm"),
      norm2_(store, config, prefix_ + ".mlp_norm"),
      attention_(store, config, prefix_ + ".attention"),
      mlp_(store, config, prefix_ + ".mlp") {}

Tensor Block::AddResidual(const Context& context, const MicroBatch& batch, const Tensor& x, const Tensor& branch,
                          const std::string& site) const {
  const DropoutMask mask = MaskOf(context, batch, dropout_, prefix_ + site, branch.dim(1));
  if (mask.probability > 0) Dropout(context.device, branch, mask, branch);
  Add(context.device, x, branch, branch);
  return branch;
}

Tensor Block::BranchGradient(const Context& context, const MicroBatch& batch, const Tensor& dy,
                             const std::string& site) const {
  const DropoutMask mask = MaskOf(context, batch, dropout_, prefix_ + site, dy.dim(1));
  if (mask.probability == 0) return dy;
  const Tensor d_branch = context.New(dy.shape());
  Dropout(context.device, dy, mask, d_branch);
  return d_branch;
}

Tensor Block::ForwardSavingAll(const Context& context, const MicroBatch& batch, const Tensor& x, Saved* saved) const {
  const auto inspect = [&](const char* suffix, const Tensor& value) {
    context.Inspect(Pass::kForward, module_, prefix_, suffix, value);
  };
  saved->x = x;
  saved->h1 = norm1_.Forward(context, x, &saved->norm1);
  inspect(".attention_norm", saved->h1);
  const Tensor attended = attention_.Forward(context, batch, saved->h1, &saved->attention);
  inspect(".attention", attended);
  const Tensor y1 = AddResidual(context, batch, x, attended, ".attention");
  saved->h2 = norm2_.Forward(context, y1, &saved->norm2);
  inspect(".mlp_norm", saved->h2);
  const Tensor fed = mlp_.Forward(context, saved->h2, &saved->mlp);
  inspect(".mlp", fed);
  const Tensor y = AddResidual(context, batch, y1, fed, ".mlp");
  inspect("", y);
  return y;
}

Tensors Block::Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const {
  auto saved = std::make_unique<Saved>();
  const Tensor y = ForwardSavingAll(context, batch, x.front(), saved.get());
  if (!batch.training) return {y};
  if (context.recompute == ParallelConfig::FULL) {
    saved = std::make_unique<Saved>();
    saved->x = x.front();
  } else if (context.recompute == ParallelConfig::SELECTIVE) {
    saved->h1 = saved->h2 = saved->mlp.a = Tensor();
  }
  pass->saved = std::move(saved);
  return {y};
}

Tensors Block::Backward(const Context& context, const MicroBatch& batch, const Tensors& d_output,
                        std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const {
  const Tensor& dy = d_output.front();
  Saved& saved = static_cast<Saved&>(*kept);
  if (context.recompute == ParallelConfig::FULL) {
    const Tensor x = saved.x;
    ForwardSavingAll(context, batch, x, &saved);
  } else if (context.recompute == ParallelConfig::SELECTIVE) {
    const Tensor x1 = saved.norm1.x, x2 = saved.norm2.x;
    saved.h1 = norm1_.Forward(context, x1, &saved.norm1);
    saved.h2 = norm2_.Forward(context, x2, &saved.norm2);
  }
  const auto inspect = [&](const char* suffix, const Tensor& gradient) {
    context.Inspect(Pass::kBackward, module_, prefix_, suffix, gradient);
  };
  const Tensor d_fed = BranchGradient(context, batch, dy, ".mlp");
  const Tensor dh2 = mlp_.Backward(context, d_fed, saved.h2, saved.mlp, weights);
  inspect(".mlp", dh2);
  const Tensor dy1 = norm2_.Backward(context, dh2, saved.norm2, dy);
  inspect(".mlp_norm", dy1);
  const Tensor d_attended = BranchGradient(context, batch, dy1, ".attention");
  const Tensor dh1 = attention_.Backward(context, batch, d_attended, saved.h1, saved.attention, weights);
  inspect(".attention", dh1);
  const Tensor dx = norm1_.Backward(context, dh1, saved.norm1, dy1);
  inspect("", dx);
  return {dx};
}

}  // namespace trefoil
