#include "model/layers/recurrent.h"

#include "model/families/recipe.h"
#include "model/layers/rows.h"

namespace trefoil {
namespace {

std::string Name(int layer) { return "layers." + std::to_string(layer); }

std::vector<std::string> GatesOf(const ModelConfig& config) {
  if (config.family() == ModelConfig::RNN) return {"h"};
  return {"i", "f", "g", "o"};
}

std::vector<std::string> DirectionsOf(const ModelConfig& config) {
  if (config.bidirectional()) return {"forward", "backward"};
  return {"forward"};
}

// All units of a direction.
int64_t Units(const ModelConfig& config) { return config.hidden() / static_cast<int64_t>(DirectionsOf(config).size()); }

std::vector<std::string> NamesOf(const ModelConfig& config, const std::string& prefix, const std::string& suffix) {
  std::vector<std::string> names;
  for (const std::string& gate : GatesOf(config)) names.push_back(prefix + gate + suffix);
  return names;
}

void DeclareDirection(const ModelConfig& config, const std::string& prefix, int module, ParameterTable* table) {
  const int64_t units = Units(config);
  const auto add = [&](const std::string& kind, Shape shape, bool weight) {
    bool first = true;
    for (const std::string& gate : GatesOf(config)) {
      // A cell begins by remembering (Gers et al. 2000).
      const Initial bias = gate == "f" ? Initial::kOnes : Initial::kZeros;
      table->Add({.name = prefix + kind + gate + (weight ? ".weight" : ".bias"),
                  .module = module,
                  .shape = shape,
                  .splits = {{.dim = 0, .axis = Axis::kTensor}},
                  .initial = weight ? Initial::kNormal : bias,
                  .deviation = weight ? InitialDeviation(config, shape[1], shape[0]) : 0,
                  .decay = weight,
                  .fused_with_previous = !first});
      first = false;
    }
  };
  add(".input.", {units, config.hidden()}, true);
  add(".input.", {units}, false);
  add(".recurrent.", {units, units}, true);
}

}  // namespace

void RecurrentLayer::Declare(const ModelConfig& config, int layer, int module, ParameterTable* table) {
  for (const std::string& direction : DirectionsOf(config)) {
    DeclareDirection(config, Name(layer) + "." + direction, module, table);
  }
}

double RecurrentLayer::Flops(const ModelConfig& config) {
  ParameterTable table;
  Declare(config, 0, 0, &table);
  return 6.0 * static_cast<double>(table.elements()) * config.sequence_length();
}

RecurrentLayer::RecurrentLayer(const ParameterStore& store, const ModelConfig& config, int layer, int module)
    : config_(config),
      name_(Name(layer)),
      module_(module),
      cell_(config.family() == ModelConfig::RNN ? Cell::kTanh : Cell::kLstm) {
  for (const std::string& direction : DirectionsOf(config)) {
    const std::string prefix = name_ + "." + direction;
    directions_.push_back({.input = store.View(NamesOf(config, prefix + ".input.", ".weight")),
                           .bias = store.View(NamesOf(config, prefix + ".input.", ".bias")),
                           .recurrent = store.View(NamesOf(config, prefix + ".recurrent.", ".weight"))});
  }
}

void RecurrentLayer::Run(const Context& context, const MicroBatch& batch, const Direction& direction, const Tensor& x,
                         Steps* steps) const {
  Device& device = context.device;
  const int64_t b = batch.samples, tokens = batch.input.length, ranks = context.tensor.size();
  const int64_t all_units = direction.recurrent.shape()[1], units = all_units / ranks;
  steps->gates = context.NewFloat({x.dim(0), direction.input.shape()[0]});
  Matmul(device, x, Transpose::kNo, direction.input.weight(), Transpose::kYes, steps->gates, Accumulate::kNo,
         direction.bias.weight());
  Fill(device, steps->outputs.Rows(0, b), 0);
  if (cell_ == Cell::kLstm) {
    steps->cells = context.NewFloat({(tokens + 1) * b, units});
    Fill(device, steps->cells.Rows(0, b), 0);
  }
  const auto cells = [&](int64_t step) {
    return cell_ == Cell::kLstm ? steps->cells.Rows(step * b, (step + 1) * b) : Tensor();
  };
  for (int64_t s = 0; s < tokens; ++s) {
    const Tensor gates = steps->gates.Rows(s * b, (s + 1) * b);
    Matmul(device, steps->outputs.Rows(s * b, (s + 1) * b), Transpose::kNo, direction.recurrent.weight(),
           Transpose::kYes, gates, Accumulate::kYes);
    const Tensor output = steps->outputs.Rows((s + 1) * b, (s + 2) * b);
    const Tensor mine = ranks == 1 ? output : context.New({b, units});
    RecurrentCell(device, cell_, gates, cells(s), mine, cells(s + 1));
    if (ranks == 1) continue;
    const Tensor gathered = context.New({ranks * b, units});
    context.tensor.AllGather(mine, gathered);
    Embedding(device, batch.time_steps.columns_of_ranks, gathered, 0, output.View({b * ranks, units}));
  }
}

Tensors RecurrentLayer::Forward(const Context& context, const MicroBatch& batch, const Tensors& x,
                                ForwardPass* pass) const {
  auto saved = std::make_unique<Saved>();
  const Tensor all = context.GatherTokens(x.front());
  const int64_t n = batch.rows(), directions = static_cast<int64_t>(directions_.size());
  const int64_t units = Units(config_), outputs = (batch.input.length + 1) * batch.samples;
  const Tensor of_all = context.New({directions * outputs, units});
  for (int64_t d = 0; d < directions; ++d) {
    Steps& steps = saved->directions.emplace_back();
    steps.x = ChooseRows(context, all, batch.time_steps.rows_of_steps.Rows(d * n, (d + 1) * n));
    steps.outputs = of_all.Rows(d * outputs, (d + 1) * outputs);
    Run(context, batch, directions_[static_cast<size_t>(d)], steps.x, &steps);
  }
  const Tensor parts = ChooseRows(context, of_all, context.LocalTokens(batch.time_steps.outputs_of_rows));
  const Tensor y = parts.View({parts.dim(0) / directions, directions * units});
  if (const DropoutMask mask = MaskOf(context, batch, config_.dropout(), name_, y.dim(1)); mask.probability > 0) {
    Dropout(context.device, y, mask, y);
  }
  context.Inspect(Pass::kForward, module_, name_, "", y);
  if (batch.training) pass->saved = std::move(saved);
  return {y};
}

Tensor RecurrentLayer::RunBack(const Context& context, const MicroBatch& batch, const Direction& direction,
                               const Tensor& dy, const Steps& steps) const {
  Device& device = context.device;
  const int64_t b = batch.samples, tokens = batch.input.length, ranks = context.tensor.size();
  const int64_t all_units = direction.recurrent.shape()[1], units = all_units / ranks;
  const bool lstm = cell_ == Cell::kLstm;
  const Tensor all_d_gates = context.New(steps.gates.shape());
  Tensor dc;  // from the step behind
  for (int64_t s = tokens - 1; s >= 0; --s) {
    const Tensor dh = context.NewFloat({b, units});
    Cast(device, dy.Rows(s * b, (s + 1) * b), dh);
    if (s + 1 < tokens) {
      const Tensor behind = all_d_gates.Rows((s + 1) * b, (s + 2) * b);
      if (ranks == 1) {
        Matmul(device, behind, Transpose::kNo, direction.recurrent.weight(), Transpose::kNo, dh, Accumulate::kYes);
      } else {
        // Every rank has a part of the gradient of all units: parts are added, and each rank takes its units'.
        const Tensor partial = context.NewFloat({b, all_units}), by_rank = context.NewFloat({ranks * b, units});
        Matmul(device, behind, Transpose::kNo, direction.recurrent.weight(), Transpose::kNo, partial);
        Embedding(device, batch.time_steps.ranks_of_columns, partial.View({b * ranks, units}), 0, by_rank);
        const Tensor mine = context.NewFloat({b, units});
        context.tensor.ReduceScatterSum(by_rank, mine);
        Add(device, dh, mine, dh);
      }
    }
    const Tensor gates = steps.gates.Rows(s * b, (s + 1) * b), d_gates = all_d_gates.Rows(s * b, (s + 1) * b);
    const Tensor d_float = context.dtype == DType::kFloat32 ? d_gates : context.NewFloat(d_gates.shape());
    const Tensor before = lstm ? steps.cells.Rows(s * b, (s + 1) * b) : Tensor();
    const Tensor cells = lstm ? steps.cells.Rows((s + 1) * b, (s + 2) * b) : Tensor();
    const Tensor dc_before = lstm ? context.NewFloat({b, units}) : Tensor();
    RecurrentCellBackward(device, cell_, dh, dc, gates, before, cells, d_float, dc_before);
    if (context.dtype != DType::kFloat32) Cast(device, d_float, d_gates);
    dc = dc_before;
  }
  return all_d_gates;
}

Tensors RecurrentLayer::Backward(const Context& context, const MicroBatch& batch, const Tensors& d_output,
                                 std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const {
  Device& device = context.device;
  const Saved& saved = static_cast<const Saved&>(*kept);
  const Tensor& dy = d_output.front();
  if (const DropoutMask mask = MaskOf(context, batch, config_.dropout(), name_, dy.dim(1)); mask.probability > 0) {
    Dropout(device, dy, mask, dy);
  }
  const Tensor all_dy = context.GatherTokens(dy);
  const int64_t n = batch.rows(), directions = static_cast<int64_t>(directions_.size());
  const int64_t units = Units(config_) / context.tensor.size();
  const Tensor parts = all_dy.View({all_dy.elements() / units, units});
  const Tensor dx = context.New({n, config_.hidden()});
  for (int64_t d = 0; d < directions; ++d) {
    const Direction& direction = directions_[static_cast<size_t>(d)];
    const Steps& steps = saved.directions[static_cast<size_t>(d)];
    const Tensor dy_steps = ChooseRows(context, parts, batch.time_steps.parts_of_steps.Rows(d * n, (d + 1) * n));
    const Tensor d_gates = RunBack(context, batch, direction, dy_steps, steps);
    const Tensor dx_steps = context.New(steps.x.shape());
    Matmul(device, d_gates, Transpose::kNo, direction.input.weight(), Transpose::kNo, dx_steps);
    Embedding(device, batch.time_steps.steps_of_rows.Rows(d * n, (d + 1) * n), dx_steps, 0, dx,
              d == 0 ? Accumulate::kNo : Accumulate::kYes);
    weights.Add([&device, &direction, d_gates, x = steps.x, h = steps.outputs.Rows(0, n)] {
      WeightGradient(device, d_gates, x, direction.input.gradient(), direction.bias.gradient());
      WeightGradient(device, d_gates, h, direction.recurrent.gradient(), Tensor());
    });
  }
  const Tensor mine = context.ReduceTokens(dx);
  context.Inspect(Pass::kBackward, module_, name_, "", mine);
  return {mine};
}

}  // namespace trefoil
