#include "model/layers/head.h"

#include <algorithm>
#include <cmath>

#include "parallel/placement.h"

namespace trefoil {
namespace {

constexpr char kNorm[] = "head.norm";
constexpr char kOutput[] = "head.output.weight";
constexpr char kBias[] = "head.output.bias";
constexpr char kTied[] = "embedding.token.weight";

// A chunk's logits over the full vocabulary take about this many bytes. By the full vocabulary, so that the order in
// which chunks are added into dW does not depend on the tensor size.
constexpr int64_t kChunkBytes = int64_t{64} << 20;

std::vector<std::string> OutputName(const ModelConfig& config) {
  return {RecipeOf(config).tied ? kTied : kOutput};
}

float ScaleOf(const ModelConfig& config) {
  const Recipe recipe = RecipeOf(config);
  return recipe.tied && recipe.scaled_head ? 1.0f / std::sqrt(static_cast<float>(config.hidden())) : 1.0f;
}

bool HasNorm(const ModelConfig& config) { return NormBeforeHead(config) && !RecipeOf(config).transform; }

}  // namespace

void Head::Declare(const ModelConfig& config, int module, ParameterTable* table) {
  if (HasNorm(config)) Norm::Declare(config, kNorm, module, table);
  const ParameterSplit split = {.dim = 0, .axis = Axis::kTensor};
  if (!RecipeOf(config).tied) {
    table->Add({.name = kOutput,
                .module = module,
                .shape = {config.vocabulary(), config.hidden()},
                .splits = {split},
                .initial = Initial::kNormal,
                .deviation = InitialDeviation(config, config.hidden(), config.vocabulary()),
                .decay = true});
  }
  if (RecipeOf(config).output_bias) {
    table->Add({.name = kBias, .module = module, .shape = {config.vocabulary()}, .splits = {split}});
  }
}

double Head::Flops(const ModelConfig& config) {
  ParameterTable table;
  Declare(config, 0, &table);
  const int64_t tied = RecipeOf(config).tied ? int64_t{config.vocabulary()} * config.hidden() : 0;
  return 6 * static_cast<double>(table.elements() + tied) * config.targets();
}

Head::Head(const ParameterStore& store, const ModelConfig& config, int module)
    : config_(config),
      module_(module),
      transformed_(RecipeOf(config).transform),
      scale_(ScaleOf(config)),
      norm_(HasNorm(config) ? std::optional<Norm>(std::in_place, store, config, kNorm) : std::nullopt),
      weight_(store.View(OutputName(config))) {
  if (RecipeOf(config).output_bias) bias_ = store.View({kBias});
}

int64_t Head::ChunkRows(int64_t rows) const {
  return std::clamp<int64_t>(kChunkBytes / (4 * config_.vocabulary()), std::min<int64_t>(rows, 64), rows);
}

Tensor Head::Input(const Context& context, const Tensor& x, Norm::Saved* saved) const {
  const Tensor h = norm_.has_value() ? norm_->Forward(context, x, saved) : x;
  if (scale_ == 1) return h;
  const Tensor scaled = norm_.has_value() ? h : context.New(h.shape());
  Scale(context.device, h, scale_, scaled);
  return scaled;
}

Tensor Head::InputBackward(const Context& context, const Tensor& dh, const Norm::Saved& saved) const {
  if (scale_ != 1) Scale(context.device, dh, scale_, dh);
  return norm_.has_value() ? norm_->Backward(context, dh, saved, Tensor()) : dh;
}

Tensors Head::Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const {
  Device& device = context.device;
  auto saved = std::make_unique<Saved>();
  const Tensor normed = Input(context, x.front(), &saved->norm);
  const Tensor h = transformed_ ? normed : context.GatherTokens(normed);
  if (norm_.has_value()) context.Inspect(Pass::kForward, module_, kNorm, "", h);
  const int64_t rows = h.dim(0), columns = weight_.shape()[0];
  const int64_t first_column = SplitBegin(config_.vocabulary(), context.tensor.size(), context.tensor.rank());
  const int64_t chunk = ChunkRows(rows);
  const LabelSmoothing smoothing = batch.smoothing(config_.vocabulary());
  const Tensor loss = context.NewFloat({rows}), correct = transformed_ ? context.NewFloat({rows}) : Tensor();
  const bool divided = batch.training && pass->divided, whole = batch.training && !pass->divided;
  Tensor dh;
  if (whole) dh = context.New(h.shape());
  if (divided) {
    saved->h = normed;  // gathered again when it is used
    saved->d_logits = context.New({rows, columns});
  }
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk), r = end - begin;
    const bool in_place = context.dtype == DType::kFloat32;
    const Tensor kept = divided ? saved->d_logits.Rows(begin, end) : Tensor();
    const Tensor logits = divided && in_place ? kept : context.NewFloat({r, columns});
    Matmul(device, h.Rows(begin, end), Transpose::kNo, weight_.weight(), Transpose::kYes, logits,
           Accumulate::kNo, bias_.weight());
    const Tensor targets = batch.targets.Rows(begin, end);
    const Tensor weights = batch.weights.defined() ? batch.weights.Rows(begin, end) : Tensor();
    const int64_t part = context.tensor.rank(), numbers = batch.loss_statistics();
    const Tensor statistics = context.NewFloat({context.tensor.size(), r, numbers});
    const Tensor mine = statistics.Rows(part, part + 1).View({r, numbers});
    CrossEntropyStatistics(device, logits, targets, first_column, mine);
    context.tensor.AllGather(mine, statistics.View({context.tensor.size() * r, numbers}));
    const Tensor log_sum_exp = context.NewFloat({r});
    CrossEntropyCombine(device, statistics, weights, loss.Rows(begin, end), log_sum_exp, smoothing,
                        correct.defined() ? correct.Rows(begin, end) : Tensor());
    if (!batch.training) continue;
    const Tensor d_logits = divided ? kept : in_place ? logits : context.New({r, columns});
    CrossEntropyBackward(device, logits, targets, weights, log_sum_exp, first_column, batch.loss_scale, d_logits,
                         smoothing);
    if (divided) continue;
    Matmul(device, d_logits, Transpose::kNo, weight_.weight(), Transpose::kNo, dh.Rows(begin, end));
    AddGradients(context, d_logits, h.Rows(begin, end));
  }
  context.Inspect(Pass::kForward, module_, "head", ".loss", loss);
  pass->losses.push_back({.name = kTokenLoss, .values = loss});
  if (correct.defined()) pass->losses.push_back({.name = kCorrect, .values = correct});
  if (whole) saved->dh = ReduceGradient(context, dh);
  if (batch.training) pass->saved = std::move(saved);
  return {};
}

Tensor Head::ReduceGradient(const Context& context, const Tensor& all_dh) const {
  if (!transformed_) return context.ReduceTokens(all_dh);
  context.tensor.AllReduceSum(all_dh);
  return all_dh;
}

void Head::AddGradients(const Context& context, const Tensor& d_logits, const Tensor& h) const {
  if (weight_.trained()) {
    Matmul(context.device, d_logits, Transpose::kYes, h, Transpose::kNo, weight_.gradient(), Accumulate::kYes);
  }
  BiasBackward(context.device, d_logits, bias_.gradient());
}

Tensors Head::Backward(const Context& context, const MicroBatch&, const Tensors&, std::unique_ptr<Module::Saved> kept,
                       WeightGradients& weights) const {
  Saved& saved = static_cast<Saved&>(*kept);
  Tensor dh = saved.dh;
  if (saved.d_logits.defined()) {
    const Tensor local = saved.h, d_logits = saved.d_logits;
    const int64_t rows = d_logits.dim(0), chunk = ChunkRows(rows);
    const Tensor all_dh = context.New({rows, local.dim(1)});
    for (int64_t begin = 0; begin < rows; begin += chunk) {
      const int64_t end = std::min(rows, begin + chunk);
      Matmul(context.device, d_logits.Rows(begin, end), Transpose::kNo, weight_.weight(), Transpose::kNo,
             all_dh.Rows(begin, end));
    }
    dh = ReduceGradient(context, all_dh);
    weights.Add([this, &context, local, d_logits, rows, chunk] {
      const Tensor h = transformed_ ? local : context.GatherTokens(local);
      for (int64_t begin = 0; begin < rows; begin += chunk) {
        const int64_t end = std::min(rows, begin + chunk);
        AddGradients(context, d_logits.Rows(begin, end), h.Rows(begin, end));
      }
    });
  }
  context.Inspect(Pass::kBackward, module_, "head", ".output", dh);
  const Tensor dx = InputBackward(context, dh, saved.norm);
  if (norm_.has_value()) context.Inspect(Pass::kBackward, module_, kNorm, "", dx);
  return {dx};
}

Tensor Head::Logits(const Context& context, const Tensor& x) const {
  CHECK(!context.splits_tokens());
  Norm::Saved unused;
  const Tensor h = Input(context, x, &unused);
  const Tensor logits = context.NewFloat({h.dim(0), weight_.shape()[0]});
  Matmul(context.device, h, Transpose::kNo, weight_.weight(), Transpose::kYes, logits, Accumulate::kNo,
         bias_.weight());
  return logits;
}

}  // namespace trefoil
