#include "launcher/report/describe.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>

#include "model/families/recipe.h"
#include "model/model_text.h"
#include "parallel/mesh.h"
#include "parallel/pipeline/virtual_stages.h"
#include "runtime/number_text.h"
#include "training/config/micro_batches.h"

namespace trefoil {
namespace {

// Of `count` rows or columns, those that the picture shows; -1 stands for those left out.
std::vector<int> Shown(int count, int most) {
  std::vector<int> shown;
  if (count <= most) {
    for (int i = 0; i < count; ++i) shown.push_back(i);
    return shown;
  }
  for (int i = 0; i < most - 2; ++i) shown.push_back(i);
  shown.push_back(-1);
  shown.push_back(count - 1);
  return shown;
}

// "layer 3": 3 of the series "layer"; what ends in no number is alone.
struct Numbered {
  std::string series;
  int number = -1;
};
Numbered NumberedOf(const std::string& name) {
  const size_t space = name.rfind(' ');
  int number = 0;
  if (space == std::string::npos || !absl::SimpleAtoi(name.substr(space + 1), &number)) return {.series = name};
  return {.series = name.substr(0, space), .number = number};
}

// "embedding, layers 0-2, 6-8, head": a series' numbers as in the modules' names, in ranges of a chunk each.
std::string ModulesOfStage(const Summary& summary, const VirtualStages& virtual_stages, int stage) {
  std::vector<std::pair<std::string, std::vector<std::string>>> parts;  // series and its ranges, in order of appearance
  const auto ranges_of = [&](const std::string& series) -> std::vector<std::string>& {
    for (auto& [name, ranges] : parts) {
      if (name == series) return ranges;
    }
    return parts.emplace_back(series, std::vector<std::string>()).second;
  };
  for (int chunk = 0; chunk < virtual_stages.chunks(); ++chunk) {
    const std::vector<std::string>& names = summary.modules[static_cast<size_t>(virtual_stages.Of(stage, chunk))];
    for (size_t i = 0, next; i < names.size(); i = next) {
      const Numbered first = NumberedOf(names[i]);
      int last = first.number;
      for (next = i + 1; next < names.size(); ++next, ++last) {
        const Numbered here = NumberedOf(names[next]);
        if (here.series != first.series || here.number != last + 1 || last < 0) break;
      }
      std::vector<std::string>& ranges = ranges_of(first.series);
      if (first.number < 0) continue;
      ranges.push_back(last == first.number ? absl::StrCat(last) : absl::StrCat(first.number, "-", last));
    }
  }
  std::vector<std::string> texts;
  for (const auto& [series, ranges] : parts) {
    texts.push_back(ranges.empty() ? series : absl::StrCat(series, "s ", absl::StrJoin(ranges, ", ")));
  }
  return absl::StrJoin(texts, ", ");
}

// The ranks of one stage of one replica.
std::string Cell(const ParallelConfig& parallel, int stage, int replica, size_t digits) {
  const MeshSizes sizes(parallel);
  const Mesh of_stage(sizes, Mesh(sizes, 0).RankAt(Axis::kPipeline, stage));
  const std::vector<int> cell =
      Mesh(sizes, of_stage.RankAt(Axis::kData, replica)).Group(AxisSet::All() - Axis::kPipeline - Axis::kData);
  const auto padded = [&](int rank) {
    const std::string text = absl::StrCat(rank);
    return std::string(digits - text.size(), ' ') + text;
  };
  if (cell.size() > 4) return absl::StrCat(padded(cell.front()), " - ", padded(cell.back()));
  std::vector<std::string> ranks;
  for (const int rank : cell) ranks.push_back(padded(rank));
  return absl::StrJoin(ranks, "  ");
}

std::string Centred(const std::string& text, size_t width) {
  const size_t space = width - std::min(width, text.size());
  return std::string(space / 2, ' ') + text + std::string(space - space / 2, ' ');
}

std::string Picture(const RunConfig& config, const Summary& summary) {
  const ParallelConfig& parallel = config.parallel();
  const std::vector<int> stages = Shown(parallel.pipeline(), 8);
  const std::vector<int> replicas = Shown(parallel.data(), 4);
  const size_t digits = absl::StrCat(summary.ranks - 1).size();

  std::vector<std::string> labels;
  size_t label_width = 0;
  for (const int stage : stages) {
    labels.push_back(stage < 0 ? "..."
                               : absl::StrCat("stage ", stage, "  ",
                                              ModulesOfStage(summary, VirtualStages(parallel), stage)));
    label_width = std::max(label_width, labels.back().size());
  }
  const size_t cell_width = std::max<size_t>(10, Cell(parallel, 0, 0, digits).size() + 4);
  const auto width = [&](int replica) { return replica < 0 ? size_t{5} : cell_width; };

  const std::string margin(10, ' ');
  std::string heads = margin + std::string(label_width + 2, ' ');
  std::string rule = heads;
  for (const int replica : replicas) {
    absl::StrAppend(&heads, " ", Centred(replica < 0 ? "..." : absl::StrCat("replica ", replica), width(replica)));
    absl::StrAppend(&rule, "+", std::string(width(replica), '-'));
  }
  rule += "+";
  heads.erase(heads.find_last_not_of(' ') + 1);
  std::string picture = absl::StrCat(heads, "\n", rule, "\n");
  for (size_t row = 0; row < stages.size(); ++row) {
    absl::StrAppend(&picture, margin, labels[row], std::string(label_width - labels[row].size() + 2, ' '));
    for (const int replica : replicas) {
      const bool left_out = replica < 0 || stages[row] < 0;
      absl::StrAppend(&picture, "|",
                      Centred(left_out ? "..." : Cell(parallel, stages[row], replica, digits), width(replica)));
    }
    absl::StrAppend(&picture, "|\n", rule, "\n");
  }
  return picture;
}

std::string Memory(const Summary& summary) {
  std::string text = absl::StrCat("memory    rank ", summary.worst_rank, ", the fullest:\n");
  const auto line = [&](const std::string& name, int64_t bytes) {
    absl::StrAppendFormat(&text, "          %-14s %10s\n", name, BytesText(bytes));
  };
  for (const auto& [name, bytes] : summary.memory) {
    if (bytes > 0) line(name, bytes);
  }
  line("reserved", summary.reserved);
  return text;
}

std::string Plural(int64_t count, const char* noun) { return absl::StrCat(count, " ", noun, count == 1 ? "" : "s"); }

}  // namespace

std::string Describe(const RunConfig& config, const Summary& summary) {
  const ModelConfig& model = config.model();
  const ParallelConfig& parallel = config.parallel();
  const TrainingConfig& training = config.training();
  const OptimizerConfig& optimizer = training.optimizer();
  CHECK_EQ(RanksOfMesh(parallel), summary.ranks);
  CHECK_EQ(static_cast<size_t>(VirtualStages(parallel).size()), summary.modules.size());

  std::string text = absl::StrCat(
      "run       ", config.folder(), "\n", "program   ", summary.program, "\n", "model     ", ModelInWords(model), "; ",
      ShortCount(static_cast<double>(summary.parameters)), " parameters",
      summary.trained_parameters == summary.parameters
          ? ""
          : absl::StrCat(", of which ", ShortCount(static_cast<double>(summary.trained_parameters)), " are trained"),
      "\n");
  absl::StrAppend(&text, "mesh      ", MeshText(parallel), " = ", Plural(summary.ranks, "rank"), ", ",
                  Plural(summary.threads, "thread"), " each\n\n", Picture(config, summary), "\n");

  absl::StrAppend(&text, "schedule  ", ParallelConfig::Schedule_Name(parallel.schedule()));
  if (parallel.chunks() > 1) absl::StrAppend(&text, " of ", parallel.chunks(), " chunks");
  absl::StrAppend(&text, "; ZeRO: ", ParallelConfig::Zero_Name(parallel.zero()),
                  parallel.replicas() > 1 ? absl::StrCat(" in ", parallel.replicas(), " replicas") : "", "; recompute: ",
                  ParallelConfig::Recompute_Name(parallel.recompute()),
                  "; sequence parallel: ", parallel.sequence_parallel() && parallel.tensor() > 1 ? "on" : "off",
                  parallel.context() > 1
                      ? "; context: " + ParallelConfig::ContextMethod_Name(parallel.context_method())
                      : "",
                  "; precision: ", TrainingConfig::Precision_Name(training.precision()));
  const bool recurrent = RecipeOf(model).structure == Recipe::Structure::kRecurrent;
  if (config.runtime().device() == RuntimeConfig::CUDA && !recurrent) {
    absl::StrAppend(&text, "; attention: ", RuntimeConfig::Attention_Name(config.runtime().attention()));
  }
  text += "\n";

  if (config.runtime().sums() == RuntimeConfig::FASTEST) {
    text += "sums      FASTEST: over ranks in the library's order; another layout or run may give other bits\n";
  }
  if (!summary.products.empty()) absl::StrAppend(&text, "products  ", summary.products, "\n");

  const int micro_batches = MicroBatchesPerStep(config);
  const SampleSize sample = SampleSizeOf(model);
  const double units = static_cast<double>(training.global_batch() * sample.units);
  absl::StrAppend(&text, "batch     ", training.global_batch(), " = micro-batch ", training.micro_batch(), " x data ",
                  parallel.data(), " x ", micro_batches, micro_batches == 1 ? " micro-batch" : " micro-batches", "; ",
                  sample.images ? sample.Of(training.global_batch())
                                : absl::StrCat("x ", sample.text, " = ", ShortCount(units), " ", sample.unit),
                  " per step",
                  training.gradient_groups() > parallel.data()
                      ? absl::StrCat("; gradients added in ", training.gradient_groups(), " groups")
                      : "",
                  "\n");
  absl::StrAppend(&text, "steps     ", training.steps(), ": ", ShortCount(units * training.steps()), " ", sample.unit,
                  " in all; learning rate ", optimizer.learning_rate(), ", warm-up ", optimizer.warmup_steps(),
                  ", then ", OptimizerConfig::Schedule_Name(optimizer.schedule()));
  if (const float decay = training.fine_tuning().layer_decay(); decay < 1) {
    absl::StrAppend(&text, "; each layer has ", decay, " of that of the one behind it");
  }
  text += "\n";
  absl::StrAppend(&text, Memory(summary));
  absl::StrAppend(&text, "compute   ", FlopsText(summary.flops_per_sample * training.global_batch()), " per step");
  const PeakFlops& peak = summary.peak;
  if (peak.best() > 0) {
    absl::StrAppend(&text, "; MFU is of the ", peak.vendor > 0 ? "vendor's" : "measured", " peak, ",
                    FlopsText(peak.best()), "/s of all ranks together");
  }
  if (peak.vendor > 0 && peak.measured > 0) absl::StrAppend(&text, " (measured: ", FlopsText(peak.measured), "/s)");
  return text + "\n";
}

std::string SavesInForeground(const RunConfig& config) {
  std::string lines =
      "saves     in the foreground: the second buffer that saves in the background take does not fit beside the rest "
      "(training.checkpoint.writing)\n";
  const int every = config.training().checkpoint().every_steps_in_memory();
  if (every > 0) {
    absl::StrAppend(&lines, "snapshots none in memory, which are taken in the background "
                    "(training.checkpoint.every_steps_in_memory ", every, ")\n");
  }
  return lines;
}

}  // namespace trefoil
