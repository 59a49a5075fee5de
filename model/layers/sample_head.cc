#include "model/layers/sample_head.h"

#include "model/layers/rows.h"
#include "model/patches.h"
#include "runtime/random.h"

namespace trefoil {
namespace {

constexpr char kNorm[] = "head.norm";

// The pooler looks at a sample, not at tokens of it.
bool HasPooler(const ModelConfig& config) { return RecipeOf(config).pooler && config.targets() == 1; }

WholeLinearShape PoolerShape(const ModelConfig& config) {
  return {.prefix = "head.pooler",
          .outputs = config.hidden(),
          .inputs = config.hidden(),
          .deviation = InitialDeviation(config, config.hidden(), config.hidden())};
}

int64_t Outputs(const ModelConfig& config) {
  if (config.head() == ModelConfig::CLASSES) return config.classes();
  return config.head() == ModelConfig::PATCHES ? PatchValues(config) : 1;
}

WholeLinearShape OutputShape(const ModelConfig& config) {
  return {.prefix = "head.output",
          .outputs = Outputs(config),
          .inputs = config.hidden(),
          .deviation = InitialDeviation(config, config.hidden(), Outputs(config))};
}

bool PoolsMean(const ModelConfig& config) {
  return config.pooling() == ModelConfig::MEAN && config.targets() == 1 && config.head() != ModelConfig::PATCHES;
}

}  // namespace

void SampleHead::Declare(const ModelConfig& config, int module, ParameterTable* table) {
  if (NormBeforeHead(config)) Norm::Declare(config, kNorm, module, table);
  if (HasPooler(config)) WholeLinear::Declare(PoolerShape(config), module, table);
  WholeLinear::Declare(OutputShape(config), module, table);
}

double SampleHead::Flops(const ModelConfig& config) {
  ParameterTable table;
  if (HasPooler(config)) WholeLinear::Declare(PoolerShape(config), 0, &table);
  WholeLinear::Declare(OutputShape(config), 0, &table);
  return 6.0 * static_cast<double>(table.elements()) * config.targets();
}

SampleHead::SampleHead(const ParameterStore& store, const ModelConfig& config, int module)
    : config_(config),
      module_(module),
      norm_(NormBeforeHead(config) ? std::optional<Norm>(std::in_place, store, config, kNorm) : std::nullopt),
      pooler_(HasPooler(config) ? std::optional<WholeLinear>(std::in_place, store, PoolerShape(config))
                                : std::nullopt),
      output_(store, OutputShape(config)) {}

DropoutMask SampleHead::MaskOfHead(const Context& context, const MicroBatch& batch) const {
  return {.probability = batch.training && config_.head() != ModelConfig::PATCHES ? config_.dropout() : 0,
          .key = RandomKey(context.dropout_seed, "dropout/head"),
          .first_row = batch.first_sample * batch.targets_of_sample,
          .global_columns = config_.hidden()};
}

Tensor SampleHead::Output(const Context& context, const MicroBatch& batch, const Tensor& x, Saved* saved) const {
  const Tensor all = context.GatherTokens(norm_.has_value() ? norm_->Forward(context, x, &saved->norm) : x);
  if (PoolsMean(config_)) {
    saved->h = context.New({batch.samples, all.dim(1)});
    MeanPool(context.device, all, batch.input.length, batch.input.lengths, /*first=*/1, saved->h);
  } else {
    saved->h = batch.target_rows.defined() ? ChooseRows(context, all, batch.target_rows) : all;
  }
  Tensor pooled = saved->h;
  if (pooler_.has_value()) {
    saved->before = pooler_->Forward(context, saved->h);
    pooled = context.New(saved->before.shape());
    Activate(context.device, Activation::kTanh, saved->before, pooled);
  }
  saved->dropped = pooled;
  if (const DropoutMask mask = MaskOfHead(context, batch); mask.probability > 0) {
    saved->dropped = context.New(pooled.shape());
    Dropout(context.device, pooled, mask, saved->dropped);
  }
  return output_.Forward(context, saved->dropped, /*to_float=*/true);
}

Tensor SampleHead::Output(const Context& context, const MicroBatch& batch, const Tensor& x) const {
  Saved unused;
  return Output(context, batch, x, &unused);
}

Tensors SampleHead::Forward(const Context& context, const MicroBatch& batch, const Tensors& x,
                            ForwardPass* pass) const {
  Device& device = context.device;
  auto saved = std::make_unique<Saved>();
  const Tensor output = Output(context, batch, x.front(), saved.get());
  const int64_t rows = output.dim(0);
  const Tensor loss = context.NewFloat({rows});
  if (batch.training) saved->d_output = context.New(output.shape());
  if (config_.head() == ModelConfig::CLASSES) {
    const LabelSmoothing smoothing = batch.smoothing(config_.classes());
    const int64_t numbers = batch.loss_statistics();
    const Tensor statistics = context.NewFloat({1, rows, numbers});
    const Tensor log_sum_exp = context.NewFloat({rows}), correct = context.NewFloat({rows});
    CrossEntropyStatistics(device, output, batch.targets, 0, statistics.View({rows, numbers}));
    CrossEntropyCombine(device, statistics, batch.weights, loss, log_sum_exp, smoothing, correct);
    if (batch.training) {
      CrossEntropyBackward(device, output, batch.targets, batch.weights, log_sum_exp, 0, batch.loss_scale,
                           saved->d_output, smoothing);
    }
    pass->losses.push_back({.name = kCorrect, .values = correct});
  } else {
    SquaredError(device, output, batch.values, batch.weights, loss);
    if (batch.training) {
      SquaredErrorBackward(device, output, batch.values, batch.weights, batch.loss_scale, output);
      Cast(device, output, saved->d_output);
    }
  }
  context.Inspect(Pass::kForward, module_, "head", ".loss", loss);
  pass->losses.push_back({.name = kTokenLoss, .values = loss});
  if (batch.training) pass->saved = std::move(saved);
  return {};
}

Tensors SampleHead::Backward(const Context& context, const MicroBatch& batch, const Tensors&,
                             std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const {
  Device& device = context.device;
  const Saved& saved = static_cast<const Saved&>(*kept);
  Tensor dh = output_.Backward(context, saved.d_output, saved.dropped, weights);
  if (const DropoutMask mask = MaskOfHead(context, batch); mask.probability > 0) Dropout(device, dh, mask, dh);
  if (pooler_.has_value()) {
    const Tensor d_before = context.New(dh.shape());
    ActivateBackward(device, Activation::kTanh, dh, saved.before, d_before);
    dh = pooler_->Backward(context, d_before, saved.h, weights);
  }
  if (PoolsMean(config_)) {
    const Tensor d_all = context.New({batch.rows(), dh.dim(1)});
    MeanPoolBackward(device, dh, batch.input.length, batch.input.lengths, /*first=*/1, d_all);
    dh = d_all;
  } else if (batch.row_targets.defined()) {
    dh = ChooseRows(context, dh, batch.row_targets);
  }
  Tensor dx = context.LocalTokens(dh);
  if (norm_.has_value()) dx = norm_->Backward(context, dx, saved.norm, Tensor());
  context.Inspect(Pass::kBackward, module_, "head", "", dx);
  return {dx};
}

}  // namespace trefoil
