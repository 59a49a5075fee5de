#include "model/block.h"

#include <algorithm>

namespace trefoil {
namespace {

Residual::Place ResidualPlace(const BlockPlace& place, const char* branch) {
  return {.block = place.prefix, .branch = branch, .module = place.module, .side = place.side, .around = place.around};
}

AttentionPlace SelfPlace(const BlockPlace& place) {
  return {.prefix = place.prefix + ".attention",
          .side = place.side,
          .causal = place.causal,
          .window = place.window,
          .relative = place.relative};
}

AttentionPlace CrossPlace(const BlockPlace& place) {
  return {.prefix = place.prefix + ".cross", .side = place.side, .causal = false, .cross = true};
}

}  // namespace

void Block::Declare(const ModelConfig& config, const BlockPlace& place, ParameterTable* table) {
  Residual::Declare(config, ResidualPlace(place, "attention"), table);
  AttentionLayer::Declare(config, SelfPlace(place), place.module, table);
  if (place.cross) {
    Residual::Declare(config, ResidualPlace(place, "cross"), table);
    AttentionLayer::Declare(config, CrossPlace(place), place.module, table);
  }
  Residual::Declare(config, ResidualPlace(place, "mlp"), table);
  Mlp::Declare(config, place.prefix + ".mlp", place.module, table);
}

double Block::Flops(const ModelConfig& config, const BlockPlace& place, int64_t tokens, int64_t memory) {
  ParameterTable table;
  Declare(config, place, &table);
  const double width = static_cast<double>(config.heads()) * config.head_dim();
  const double n = static_cast<double>(tokens), m = static_cast<double>(memory);
  const double outside = place.window == 0 ? 0 : std::max(0.0, n - static_cast<double>(place.window));
  const double pairs = place.causal ? (n * n - outside * outside) / 2 : n * n;
  double flops = 6 * static_cast<double>(table.elements()) * n + 12 * width * pairs;
  if (!place.cross) return flops;
  // Keys and values of the cross attention are made of the memory's tokens.
  const double of_memory = 2.0 * config.hidden() * config.kv_heads() * config.head_dim();
  return flops + 6 * of_memory * (m - n) + 12 * width * n * m;
}

Block::Block(const ParameterStore& store, const ModelConfig& config, const BlockPlace& place)
    : place_(place),
      attention_residual_(store, config, ResidualPlace(place, "attention")),
      mlp_residual_(store, config, ResidualPlace(place, "mlp")),
      attention_(store, config, SelfPlace(place)),
      mlp_(store, config, place.prefix + ".mlp"),
      cross_(place.cross ? std::optional<Cross>({.residual = {store, config, ResidualPlace(place, "cross")},
                                                 .attention = {store, config, CrossPlace(place)}})
                         : std::nullopt) {}

Tensor Block::ForwardSavingAll(const Context& context, const MicroBatch& batch, const Tensor& x, const Tensor& memory,
                               Saved* saved) const {
  saved->x = x;
  saved->memory = memory;
  Tensor y = attention_residual_.Forward(context, batch, x, &saved->attention_residual, [&](const Tensor& h) {
    return attention_.Forward(context, batch, h, Tensor(), &saved->attention);
  });
  if (cross_.has_value()) {
    y = cross_->residual.Forward(context, batch, y, &saved->cross_residual, [&](const Tensor& h) {
      return cross_->attention.Forward(context, batch, h, memory, &saved->cross);
    });
  }
  y = mlp_residual_.Forward(context, batch, y, &saved->mlp_residual,
                            [&](const Tensor& h) { return mlp_.Forward(context, h, &saved->mlp); });
  context.Inspect(Pass::kForward, place_.module, place_.prefix, "", y);
  return y;
}

Tensors Block::Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const {
  auto saved = std::make_unique<Saved>();
  const Tensor memory = cross_.has_value() ? x.at(1) : Tensor();
  const Tensor y = ForwardSavingAll(context, batch, x.front(), memory, saved.get());
  Tensors output = {y};
  if (place_.passes_memory) output.push_back(memory);
  if (!batch.training) return output;
  if (context.recompute == ParallelConfig::FULL) {
    saved = std::make_unique<Saved>();
    saved->x = x.front();
    saved->memory = memory;
  } else if (context.recompute == ParallelConfig::SELECTIVE) {
    attention_residual_.Forget(&saved->attention_residual);
    if (cross_.has_value()) cross_->residual.Forget(&saved->cross_residual);
    mlp_residual_.Forget(&saved->mlp_residual);
    saved->mlp.a = Tensor();
  }
  pass->saved = std::move(saved);
  return output;
}

Tensors Block::Backward(const Context& context, const MicroBatch& batch, const Tensors& d_output,
                        std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const {
  Saved& saved = static_cast<Saved&>(*kept);
  if (context.recompute == ParallelConfig::FULL) {
    const Tensor x = saved.x, memory = saved.memory;
    ForwardSavingAll(context, batch, x, memory, &saved);
  } else if (context.recompute == ParallelConfig::SELECTIVE) {
    attention_residual_.Recompute(context, &saved.attention_residual);
    if (cross_.has_value()) cross_->residual.Recompute(context, &saved.cross_residual);
    mlp_residual_.Recompute(context, &saved.mlp_residual);
  }
  Tensor dx = mlp_residual_.Backward(context, batch, d_output.front(), saved.mlp_residual, [&](const Tensor& dy) {
    return mlp_.Backward(context, dy, saved.mlp_residual.h, saved.mlp, weights);
  });
  Tensor d_memory;
  if (cross_.has_value()) {
    dx = cross_->residual.Backward(context, batch, dx, saved.cross_residual, [&](const Tensor& dy) {
      return cross_->attention.Backward(context, batch, dy, saved.cross_residual.h, saved.memory, saved.cross, weights,
                                        &d_memory);
    });
    // Of this block and all behind it.
    if (place_.passes_memory) Add(context.device, d_memory, d_output.at(1), d_memory);
  }
  dx = attention_residual_.Backward(context, batch, dx, saved.attention_residual, [&](const Tensor& dy) {
    return attention_.Backward(context, batch, dy, saved.attention_residual.h, Tensor(), saved.attention, weights,
                               nullptr);
  });
  context.Inspect(Pass::kBackward, place_.module, place_.prefix, "", dx);
  return cross_.has_value() ? Tensors{dx, d_memory} : Tensors{dx};
}

}  // namespace trefoil
