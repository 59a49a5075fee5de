#include "training/config/validate.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>
#include <string>
#include <vector>

#include "data/data_rules.h"
#include "model/model_rules.h"
#include "parallel/parallel_rules.h"
#include "parallel/pipeline/schedule.h"
#include "runtime/config/nearest.h"
#include "runtime/config/rules.h"
#include "runtime/config/runtime_rules.h"
#include "runtime/devices/cuda.h"
#include "training/fine_tuning.h"
#include "training/tasks/tasks.h"
#include "training/training_rules.h"

namespace trefoil {
namespace {

// How far a layout is from legal for this run, but for the number of ranks: rules that it breaks.
int RulesBroken(const RunConfig& config, const ParallelConfig& layout, const Rules& rules) {
  int broken = 0;
  for (const DividedSize& divided : DividedSizes(config.model())) {
    if (!rules.Good(divided.path) || divided.size <= 0) continue;
    broken += divided.size % (layout.*EntryOf(divided.axis).size)() == 0 ? 0 : 1;
  }
  if (rules.Good("model.family", "model.sequence_length") && !CanShareTokens(config.model(), layout)) ++broken;
  if (rules.Good("model.layers", "parallel.chunks") && BlocksOf(config.model()) < LeastLayers(layout)) ++broken;
  if (layout.pipeline() < EntryOf(layout.schedule()).least_stages) ++broken;
  if (rules.Good("parallel.replicas") && layout.data() % layout.replicas() != 0) ++broken;
  const TrainingConfig& training = config.training();
  if (rules.Good("training.global_batch", "training.micro_batch") &&
      training.global_batch() % Product(training.micro_batch(), layout.data()) != 0) {
    ++broken;
  }
  return broken;
}

// The mesh of `ranks` ranks with the smallest change of its axes (as a ratio), of those the config allows if any.
std::string NearestMesh(const RunConfig& config, int ranks, const Rules& rules) {
  double best_cost = std::numeric_limits<double>::infinity();
  ParallelConfig best;
  ForEachMesh(ranks, config.parallel(), [&](const ParallelConfig& layout) {
    double cost = 0;
    for (const AxisEntry& axis : Axes()) {
      cost += std::abs(std::log(static_cast<double>((layout.*axis.size)()) / (config.parallel().*axis.size)()));
    }
    constexpr double kIllegal = 1e6;  // far above any change, so that these are the last choice
    constexpr double kSpecial = 1e-3;  // of equal changes one of the usual axes
    for (const AxisEntry& axis : Axes()) {
      if (axis.special && (layout.*axis.size)() != (config.parallel().*axis.size)()) cost += kSpecial;
    }
    cost += kIllegal * RulesBroken(config, layout, rules);
    if (cost >= best_cost) return;
    best_cost = cost;
    best = layout;
  });
  return MeshText(best);
}

void CheckMesh(const RunConfig& config, int ranks, Rules& rules) {
  for (const AxisEntry& axis : Axes()) {
    if (!rules.Good(std::string("parallel.") + axis.name)) return;
  }
  const int64_t product = RanksOfMesh(config.parallel());
  if (product == ranks) return;
  rules.Broken("parallel: ", MeshText(config.parallel()), " = ", product, ", but the job has ", ranks,
               ranks == 1 ? " rank" : " ranks", "; nearest legal: ", NearestMesh(config, ranks, rules));
}

// The sequences that a sample has.
struct SequenceLength {
  const char* field;
  int32_t tokens;
  bool follows;  // from the image or from the other sequence, so that it cannot be chosen
};
std::vector<SequenceLength> LengthsOf(const RunConfig& config) {
  const ModelConfig& model = config.model();
  const bool images = model.image_size() > 0;
  std::vector<SequenceLength> lengths = {{"sequence_length", model.sequence_length(), images}};
  if (model.decoder_length() > 0) {
    const bool spans = config.task().kind() == TaskConfig::SPAN_CORRUPTION;
    lengths.push_back({"decoder_length", model.decoder_length(), images || spans});
  }
  return lengths;
}

// What makes the tokens of a micro-batch a multiple of `divisor`: "sequence_length: 6, 8".
std::string NearestTokens(const SequenceLength& length, int32_t micro_batch, int64_t divisor) {
  const int64_t unit = divisor / std::gcd(divisor, length.follows ? length.tokens : micro_batch);
  return absl::StrCat(length.follows ? "micro_batch" : length.field, ": ",
                      NearestMultiples(unit, length.follows ? micro_batch : length.tokens));
}

// What a rank's tokens must be a multiple of, of a micro-batch's.
int64_t TokenRanks(const ParallelConfig& parallel, int64_t of_rank) {
  return Product(std::max(1, parallel.context()), of_rank);
}

void CheckSequenceParallel(const RunConfig& config, Rules& rules) {
  const ParallelConfig& parallel = config.parallel();
  const int32_t micro_batch = config.training().micro_batch();
  for (const SequenceLength& length : LengthsOf(config)) {
    const std::string path = std::string("model.") + length.field;
    if (!rules.Good(path, "training.micro_batch", "parallel.tensor") || !parallel.sequence_parallel()) continue;
    const int64_t tokens = Product(micro_batch, length.tokens), ranks = TokenRanks(parallel, parallel.tensor());
    if (tokens % ranks == 0) continue;
    rules.Broken(path, ": ", length.tokens, " x training.micro_batch ", micro_batch, " = ", tokens,
                 " is not a multiple of parallel.tensor ", parallel.tensor(),
                 parallel.context() > 1 ? absl::StrCat(" x parallel.context ", parallel.context(), ", which split")
                                        : ", which splits",
                 " the tokens under sequence_parallel; nearest ", NearestTokens(length, micro_batch, ranks));
  }
}

// Widths and tokens of the products that FP8 makes (runtime/ops.h, MatmulFloat8), each rank's share of them.
void CheckFloat8(const RunConfig& config, Rules& rules) {
  if (!rules.Good("training.precision", "parallel.tensor") || config.training().precision() != TrainingConfig::FP8) {
    return;
  }
  const ModelConfig::Family family = config.model().family();
  const bool patches = config.model().head() == ModelConfig::PATCHES;
  if (family == ModelConfig::RNN || family == ModelConfig::LSTM || patches) {
    rules.Broken("training.precision: FP8, which ",
                 patches ? "the narrower decoder of head PATCHES" : ModelConfig::Family_Name(family),
                 " has no products for; nearest legal: BF16");
    return;
  }
  constexpr char kRule[] = " must be a multiple of 16 with training.precision FP8; nearest ";
  const ModelConfig& model = config.model();
  const int64_t tensor = config.parallel().tensor();
  if (rules.Good("model.hidden") && model.hidden() % 16 != 0) {
    rules.Broken("model.hidden: ", model.hidden(), ",", kRule, "legal: ", NearestMultiples(16, model.hidden()));
  }
  if (rules.Good("model.feed_forward") && model.feed_forward() % tensor == 0 &&
      model.feed_forward() / tensor % 16 != 0) {
    rules.Broken("model.feed_forward: ", model.feed_forward(), " / parallel.tensor ", tensor, " = ",
                 model.feed_forward() / tensor, ",", kRule, "legal: ",
                 NearestMultiples(Product(16, tensor), model.feed_forward()));
  }
  if (rules.Good("model.heads", "model.kv_heads", "model.head_dim") && model.heads() % tensor == 0 &&
      model.kv_heads() % tensor == 0) {
    const int64_t heads = model.heads() / tensor, kv_heads = model.kv_heads() / tensor;
    const int64_t unit = 16 / std::gcd(16, std::gcd(heads, 2 * kv_heads));
    if (model.head_dim() % unit != 0) {
      rules.Broken("model.head_dim: ", model.head_dim(), " x a rank's ", heads, " heads = ", model.head_dim() * heads,
                   ", and x its ", heads, " + 2 x ", kv_heads, " heads, keys and values = ",
                   model.head_dim() * (heads + 2 * kv_heads), ", each", kRule, "head_dim: ",
                   NearestMultiples(unit, model.head_dim()));
    }
  }
  for (const SequenceLength& length : LengthsOf(config)) {
    const std::string path = std::string("model.") + length.field;
    if (!rules.Good(path, "training.micro_batch")) continue;
    const int32_t micro_batch = config.training().micro_batch();
    const int64_t tokens = Product(micro_batch, length.tokens);
    if (tokens % TokenRanks(config.parallel(), 16) == 0) continue;
    const int context = config.parallel().context();
    rules.Broken(path, ": ", length.tokens, " x training.micro_batch ", micro_batch,
                 context > 1 ? absl::StrCat(" / parallel.context ", context, " = ", tokens / context)
                             : absl::StrCat(" = ", tokens),
                 " tokens,", kRule, NearestTokens(length, micro_batch, TokenRanks(config.parallel(), 16)));
  }
}

// Of a run on GPUs.
void CheckGraphs(const RunConfig& config, Rules& rules) {
  const std::string no_graphs = WhyNoGraphs(config);
  if (config.runtime().graphs() == RuntimeConfig::ON && !no_graphs.empty()) {
    rules.Broken("runtime.graphs: ON, but ", no_graphs, "; nearest legal: OFF");
  }
}

// Of a run on GPUs.
void CheckAttention(const RunConfig& config, Rules& rules) {
  const ModelConfig& model = config.model();
  if (!rules.Good("model.head_dim", "model.sequence_length", "model.dropout", "training.precision")) return;
  const std::string name = RuntimeConfig::Attention_Name(config.runtime().attention());
  if (model.head_dim() > 128) {
    rules.Broken("model.head_dim: ", model.head_dim(), ", must be at most 128 with runtime.device CUDA; ",
                 "nearest legal: 128");
  } else if (config.runtime().attention() == RuntimeConfig::OWN) {
    return;
  } else if (const std::string why = WhyNoCudnn(config); !why.empty()) {
    rules.Broken("runtime.attention: ", name, ", must not be cuDNN's with ", why, "; nearest legal: OWN");
  } else if (config.training().precision() == TrainingConfig::FP32) {
    rules.Broken("runtime.attention: ", name, ", must not be cuDNN's with training.precision FP32; nearest legal: OWN");
  } else if (!CudnnTakesAttention(DType::kBFloat16, model.head_dim(), model.sequence_length())) {
    rules.Broken("runtime.attention: ", name, ", cuDNN's must have a model.head_dim that is a multiple of 8, and a ",
                 "model.sequence_length of at least 2, found ", model.head_dim(), " and ", model.sequence_length(),
                 "; nearest legal: OWN");
  }
}

}  // namespace

std::vector<std::string> Violations(const RunConfig& config, int ranks) {
  CHECK_GE(ranks, 1);
  Rules rules;
  rules.Fields(config, "");
  CheckParallel(config.parallel(), rules);
  CheckModel(config.model(), config.parallel(), rules);
  CheckTask(config, rules);
  if (config.folder().empty()) {
    rules.Bad("folder", "empty, must name the run's folder; for example: folder: \"runs/first\"");
  }
  CheckData(config.data(), rules);
  CheckTraining(config.training(), config.parallel(), config.runtime(), rules);
  CheckRuntime(config.runtime(), rules);
  CheckMesh(config, ranks, rules);
  CheckSequenceParallel(config, rules);
  CheckFloat8(config, rules);
  const bool cuda = config.runtime().device() == RuntimeConfig::CUDA;
  if (cuda && rules.Good("runtime.device", "runtime.messages", "runtime.attention", "runtime.graphs")) {
    CheckGraphs(config, rules);
    CheckAttention(config, rules);
  }
  // By the model's parameters, which only a legal one has.
  if (rules.lines().empty()) CheckFineTuning(config, rules);
  return rules.lines();
}

}  // namespace trefoil
