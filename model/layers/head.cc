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

void Head::Declare(const ModelConfig& config, int module, ParameterTable* table) {
  Norm::Declare(config, kNorm, module, table);
  if (RecipeOf(config).tied) return;
  table->Add({.name = kOutput,
              .module = module,
              .shape = {config.vocabulary(), config.hidden()},
              .splits = {{.dim = 0, .axis = Axis::kTensor}},
              .initial = Initial::kNormal,
              .deviation = config.initial_deviation(),
              .decay = true});
}

double Head::FlopsPerToken(const ModelConfig& config) {
  ParameterTable table;
  Declare(config, 0, &table);
  const int64_t tied = RecipeOf(config).tied ? int64_t{config.vocabulary()} * config.hidden() : 0;
  return 6 * static_cast<double>(table.elements() + tied);
}

Head::Head(const ParameterStore& store, const ModelConfig& config, int module)
    : config_(config),
      module_(module),
      norm_(store, config, kNorm),
      weight_(store.View(OutputName(config))) {}

int64_t Head::ChunkRows(int64_t rows) const {
  return std::clamp<int64_t>(kChunkBytes / (4 * config_.vocabulary()), std::min<int64_t>(rows, 64), rows);
}

Tensors Head::Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const {
  Device& device = context.device;
  auto saved = std::make_unique<Saved>();
  const Tensor h = context.GatherTokens(norm_.Forward(context, x.front(), &saved->norm));
  context.Inspect(Pass::kForward, module_, kNorm, "", h);
  const int64_t rows = h.dim(0), columns = weight_.shape()[0];
  const int64_t first_column = SplitBegin(config_.vocabulary(), context.tensor.size(), context.tensor.rank());
  const int64_t chunk = ChunkRows(rows);
  const Tensor loss = context.NewFloat({rows});
  const bool divided = batch.training && pass->divided, whole = batch.training && !pass->divided;
  Tensor dh;
  if (whole) dh = context.New(h.shape());
  if (divided) {
    saved->h = h;
    saved->d_logits = context.New({rows, columns});
  }
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk), r = end - begin;
    const bool in_place = context.dtype == DType::kFloat32;
    const Tensor kept = divided ? saved->d_logits.Rows(begin, end) : Tensor();
    const Tensor logits = divided && in_place ? kept : context.NewFloat({r, columns});
    Matmul(device, h.Rows(begin, end), Transpose::kNo, weight_.weight(), Transpose::kYes, logits);
    const Tensor targets = batch.targets.Rows(begin, end);
    const Tensor weights = batch.weights.defined() ? batch.weights.Rows(begin, end) : Tensor();
    const Tensor statistics = context.NewFloat({context.tensor.size(), r, 3});
    const int64_t part = context.tensor.rank();
    const Tensor mine = statistics.Rows(part, part + 1).View({r, 3});
    CrossEntropyStatistics(device, logits, targets, first_column, mine);
    context.tensor.AllGather(mine, statistics.View({context.tensor.size() * r, 3}));
    const Tensor log_sum_exp = context.NewFloat({r});
    CrossEntropyCombine(device, statistics, weights, loss.Rows(begin, end), log_sum_exp);
    if (!batch.training) continue;
    const Tensor d_logits = divided ? kept : in_place ? logits : context.New({r, columns});
    CrossEntropyBackward(device, logits, targets, weights, log_sum_exp, first_column, batch.loss_scale, d_logits);
    if (divided) continue;
    Matmul(device, d_logits, Transpose::kNo, weight_.weight(), Transpose::kNo, dh.Rows(begin, end));
    Matmul(device, d_logits, Transpose::kYes, h.Rows(begin, end), Transpose::kNo, weight_.gradient(), Accumulate::kYes);
  }
  context.Inspect(Pass::kForward, module_, "head", ".loss", loss);
  pass->losses.push_back({.name = kTokenLoss, .values = loss});
  if (whole) saved->dh = context.ReduceTokens(dh);
  if (batch.training) pass->saved = std::move(saved);
  return {};
}

Tensors Head::Backward(const Context& context, const MicroBatch&, const Tensors&, std::unique_ptr<Module::Saved> kept,
                       WeightGradients& weights) const {
  Saved& saved = static_cast<Saved&>(*kept);
  Tensor dh = saved.dh;
  if (saved.d_logits.defined()) {
    const Tensor h = saved.h, d_logits = saved.d_logits;
    const int64_t rows = h.dim(0), chunk = ChunkRows(rows);
    const Tensor all_dh = context.New(h.shape());
    for (int64_t begin = 0; begin < rows; begin += chunk) {
      const int64_t end = std::min(rows, begin + chunk);
      Matmul(context.device, d_logits.Rows(begin, end), Transpose::kNo, weight_.weight(), Transpose::kNo,
             all_dh.Rows(begin, end));
    }
    dh = context.ReduceTokens(all_dh);
    weights.Add([this, &context, h, d_logits, rows, chunk] {
      for (int64_t begin = 0; begin < rows; begin += chunk) {
        const int64_t end = std::min(rows, begin + chunk);
        Matmul(context.device, d_logits.Rows(begin, end), Transpose::kYes, h.Rows(begin, end), Transpose::kNo,
               weight_.gradient(), Accumulate::kYes);
      }
    });
  }
  context.Inspect(Pass::kBackward, module_, "head", ".output", dh);
  const Tensor dx = norm_.Backward(context, dh, saved.norm, Tensor());
  context.Inspect(Pass::kBackward, module_, kNorm, "", dx);
  return {dx};
}

Tensor Head::Logits(const Context& context, const Tensor& x) const {
  CHECK(!context.splits_tokens());
  Norm::Saved unused;
  const Tensor h = norm_.Forward(context, x, &unused);
  const Tensor logits = context.NewFloat({h.dim(0), weight_.shape()[0]});
  Matmul(context.device, h, Transpose::kNo, weight_.weight(), Transpose::kYes, logits);
  return logits;
}

}  // namespace trefoil
