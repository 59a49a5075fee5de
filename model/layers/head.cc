#include "model/layers/head.h"

#include <algorithm>

#include "parallel/placement.h"

namespace trefoil {
namespace {

constexpr char kNorm[] = "head.norm";
constexpr char kOutput[] = "head.output.weight";
constexpr char kTied[] = "embedding.token.weight";

// A chunk's logits over the full vocabulary take about this many bytes. By the full vocabulary, so that the order in
// which chunks are added into dW does not depend on the tensor size.
constexpr int64_t kChunkBytes = int64_t{64} << 20;

std::vector<std::string> OutputName(const ModelConfig& config) {
  return {RecipeOf(config).tied ? kTied : kOutput};
}

}  // namespace

void Head::Declare(const ModelConfig& config, int home, ParameterTable* table) {
  Norm::Declare(config, kNorm, home, table);
  if (RecipeOf(config).tied) return;
  table->Add({.name = kOutput,
              .home = home,
              .shape = {config.vocabulary(), config.hidden()},
              .splits = {{.dim = 0, .axis = Axis::kTensor}},
              .initial = Initial::kNormal,
              .deviation = config.initial_deviation(),
              .decay = true});
}

Head::Head(const ParameterStore& store, const ModelConfig& config)
    : config_(config),
      norm_(store, config, kNorm),
      weight_(store.Weight(OutputName(config))),
      d_weight_(store.Gradient(OutputName(config))) {}

void Head::Forward(const Context& context, const MicroBatch& batch, const Tensor& x, Saved* saved) const {
  Device& device = context.device;
  const int home = config_.layers() + 1;
  const Tensor h = context.GatherTokens(norm_.Forward(context, x, &saved->norm));
  context.Inspect(Pass::kForward, home, kNorm, "", h);
  const int64_t rows = h.dim(0), columns = weight_.dim(0);
  const int64_t first_column = SplitBegin(config_.vocabulary(), context.tensor.size(), context.tensor.rank());
  const int64_t chunk = std::clamp<int64_t>(kChunkBytes / (4 * config_.vocabulary()), std::min<int64_t>(rows, 64), rows);
  saved->loss = context.NewFloat({rows});
  Tensor dh;
  if (batch.training) dh = context.New(h.shape());
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk), r = end - begin;
    const Tensor logits = context.NewFloat({r, columns});
    Matmul(device, h.Rows(begin, end), Transpose::kNo, weight_, Transpose::kYes, logits);
    const Tensor targets = batch.targets.Rows(begin, end);
    const Tensor weights = batch.weights.defined() ? batch.weights.Rows(begin, end) : Tensor();
    const Tensor statistics = context.NewFloat({context.tensor.size(), r, 3});
    const int64_t part = context.tensor.rank();
    const Tensor mine = statistics.Rows(part, part + 1).View({r, 3});
    CrossEntropyStatistics(device, logits, targets, first_column, mine);
    context.tensor.AllGather(mine, statistics.View({context.tensor.size() * r, 3}));
    const Tensor log_sum_exp = context.NewFloat({r});
    CrossEntropyCombine(device, statistics, weights, saved->loss.Rows(begin, end), log_sum_exp);
    if (!batch.training) continue;
    const Tensor d_logits = context.dtype == DType::kFloat32 ? logits : context.New({r, columns});
    CrossEntropyBackward(device, logits, targets, weights, log_sum_exp, first_column, batch.loss_scale, d_logits);
    Matmul(device, d_logits, Transpose::kNo, weight_, Transpose::kNo, dh.Rows(begin, end));
    Matmul(device, d_logits, Transpose::kYes, h.Rows(begin, end), Transpose::kNo, d_weight_, Accumulate::kYes);
  }
  context.Inspect(Pass::kForward, home, "head", ".loss", saved->loss);
  if (batch.training) saved->dh = context.ReduceTokens(dh);
}

Tensor Head::Backward(const Context& context, const Saved& saved) const {
  const int home = config_.layers() + 1;
  context.Inspect(Pass::kBackward, home, "head", ".output", saved.dh);
  const Tensor dx = norm_.Backward(context, saved.dh, saved.norm, Tensor());
  context.Inspect(Pass::kBackward, home, kNorm, "", dx);
  return dx;
}

Tensor Head::Logits(const Context& context, const Tensor& x) const {
  CHECK(!context.splits_tokens());
  Norm::Saved unused;
  const Tensor h = norm_.Forward(context, x, &unused);
  const Tensor logits = context.NewFloat({h.dim(0), weight_.dim(0)});
  Matmul(context.device, h, Transpose::kNo, weight_, Transpose::kYes, logits);
  return logits;
}

}  // namespace trefoil
