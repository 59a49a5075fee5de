#include "planner/report/plan_report.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>

#include "model/model.h"
#include "model/model_text.h"
#include "runtime/number_text.h"
#include "training/fine_tuning.h"

namespace trefoil {
namespace {

constexpr double kGib = 1 << 30;

double Gib(int64_t bytes) { return static_cast<double>(bytes) / kGib; }

std::string Duration(double seconds) {
  if (seconds < 1) return absl::StrFormat("%.1f ms", 1e3 * seconds);
  if (seconds < 1000) return absl::StrFormat("%.*f s", seconds < 100 ? 2 : 1, seconds);
  if (seconds < 2 * 86400) return absl::StrFormat("%.1f hours", seconds / 3600);
  return absl::StrFormat("%.1f days", seconds / 86400);
}

// Of what is planned for, the purposes that tables of memory show.
std::vector<size_t> ShownPurposes(const Plan& plan) {
  std::vector<size_t> shown;
  for (size_t i = 0; i < kPurposes; ++i) {
    const bool used = std::any_of(plan.stages.begin(), plan.stages.end(),
                                  [&](const StagePlan& stage) { return stage.memory.peak[i] > 0; });
    const auto purpose = static_cast<Purpose>(i);
    if (used || (purpose != Purpose::kSnapshot && purpose != Purpose::kCache)) shown.push_back(i);
  }
  return shown;
}

std::string MemoryRow(const MemoryUse& memory, const std::vector<size_t>& purposes, int rank, const std::string& stages,
                      double unit) {
  std::string row = absl::StrFormat("          %-9s %6d", stages, rank);
  const auto add = [&](int64_t bytes) { absl::StrAppendFormat(&row, " %11.3f", static_cast<double>(bytes) / unit); };
  for (const size_t purpose : purposes) add(memory.peak[purpose]);
  add(memory.reserved);
  return row + "\n";
}

// The stage's moment of most memory in a steady step, and what it does then.
std::string WhenFullest(const Plan& plan) {
  const auto stage = static_cast<size_t>(plan.fullest);
  const std::vector<MemoryPoint>& points = plan.stages[stage].over_actions;
  if (points.empty()) return "";
  const auto most = std::max_element(points.begin(), points.end(),
                                     [](const MemoryPoint& a, const MemoryPoint& b) { return a.most < b.most; });
  const auto at = static_cast<size_t>(most - points.begin());
  return absl::StrFormat(", the most in use (%s) during %s, %s into the step", BytesText(most->most),
                         ToString({plan.actions[stage][at]}), Duration(plan.schedule.spans[stage][at].begin));
}

std::string Sent(const Plan& plan) {
  std::map<std::string, double> most;
  for (const StagePlan& stage : plan.stages) {
    for (const auto& [group, total] : stage.sent) most[group] = std::max(most[group], total.bytes);
  }
  std::vector<std::string> parts;
  for (const auto& [group, bytes] : most) {
    parts.push_back(absl::StrCat(group, " ", BytesText(static_cast<int64_t>(bytes))));
  }
  return absl::StrCat("sent      by a rank in a step, at most: ", parts.empty() ? "nothing" : absl::StrJoin(parts, ", "),
                      "\n");
}

std::string ScheduleText(const ParallelConfig& parallel) {
  const std::string name = ParallelConfig::Schedule_Name(parallel.schedule());
  return parallel.chunks() > 1 ? absl::StrCat(name, " of ", parallel.chunks(), " chunks") : name;
}

// Where the busiest stage's time goes.
std::string Times(const Plan& plan, const SampleSize& sample, double train_samples, double samples_of_step) {
  const double samples_per_second = samples_of_step / plan.step_seconds;
  const auto units = static_cast<double>(sample.units);
  std::string text = absl::StrFormat(
      "time      step %s, %s %s/s, %s/s model FLOPs of each rank, MFU %.1f%%\n",
      Duration(plan.step_seconds), ShortCount(samples_per_second * units), sample.unit,
      FlopsText(plan.model_flops / plan.step_seconds / plan.ranks), 100 * plan.utilisation());
  absl::StrAppendFormat(&text, "          bubble %.1f%% of the schedule's %s", 100 * plan.bubble,
                        Duration(plan.schedule.makespan));
  double reduced = 0;
  for (const StagePlan& stage : plan.stages) reduced = std::max(reduced, stage.reduced);
  absl::StrAppendFormat(&text, "; then %s for reductions that are not hidden, %s for the optimizer\n",
                        Duration(reduced - plan.schedule.makespan), Duration(plan.step_seconds - reduced));
  const auto most = std::max_element(
      plan.stages.begin(), plan.stages.end(),
      [](const StagePlan& a, const StagePlan& b) { return a.gathers_seconds < b.gathers_seconds; });
  if (most->gathers > 0) {
    absl::StrAppend(&text, "          stage ", most - plan.stages.begin(), " gathers weights ", most->gathers,
                    " times, which add ", Duration(most->gathers_seconds), "\n");
  }
  if (const double barrier = plan.schedule.barrier_seconds(); barrier > 0.001 * plan.step_seconds) {
    absl::StrAppendFormat(&text, "          of that, %s (%.1f%%) because all stages wait for the last before the next step\n",
                          Duration(barrier), 100 * barrier / plan.step_seconds);
  }
  absl::StrAppend(&text, "          ", ShortCount(train_samples * units), " ", sample.unit, " in ",
                  Duration(train_samples / samples_per_second), "\n");

  const auto busiest = std::max_element(
      plan.stages.begin(), plan.stages.end(),
      [](const StagePlan& a, const StagePlan& b) { return a.busy_seconds < b.busy_seconds; });
  std::vector<std::pair<std::string, double>> parts;
  for (const auto& [op, total] : busiest->ops) parts.emplace_back(op, total.seconds);
  for (const auto& [group, total] : busiest->sent) {
    if (total.seconds > 0) parts.emplace_back("messages over " + group, total.seconds);
  }
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  absl::StrAppend(&text, "          of stage ", busiest - plan.stages.begin(), "'s step:");
  for (size_t i = 0; i < parts.size() && i < 8; ++i) {
    absl::StrAppendFormat(&text, "%s %s %.1f%%", i == 0 ? "" : ",", parts[i].first,
                          100 * parts[i].second / plan.step_seconds);
  }
  return text + "\n";
}

}  // namespace

// Neighbouring stages that need the same share a row; of many rows those in the middle are left out.
std::string MemoryTable(const Plan& plan) {
  const bool small = Gib(plan.reserved()) < 1;
  const double unit = small ? 1 << 20 : 1 << 30;
  std::string text = absl::StrFormat("memory    %s of a rank of each stage, at its highest\n          %-9s %6s",
                                     small ? "MiB" : "GiB", "stage", "rank");
  const std::vector<size_t> purposes = ShownPurposes(plan);
  for (const size_t i : purposes) {
    const auto purpose = static_cast<Purpose>(i);
    absl::StrAppendFormat(&text, " %11s", purpose == Purpose::kCommunication ? "messages" : Name(purpose));
  }
  absl::StrAppendFormat(&text, " %11s\n", "reserved");
  const auto same = [](const MemoryUse& a, const MemoryUse& b) { return a.peak == b.peak && a.reserved == b.reserved; };
  std::vector<std::string> rows;
  for (size_t first = 0; first < plan.stages.size();) {
    size_t last = first;
    while (last + 1 < plan.stages.size() && same(plan.stages[first].memory, plan.stages[last + 1].memory)) ++last;
    const std::string name = first == last ? absl::StrCat(first) : absl::StrCat(first, " - ", last);
    rows.push_back(MemoryRow(plan.stages[first].memory, purposes, plan.stages[first].rank, name, unit));
    first = last + 1;
  }
  constexpr size_t kMost = 16, kEnds = 6;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows.size() > kMost && i == kEnds) {
      absl::StrAppend(&text, "          ... (", rows.size() - 2 * kEnds, " rows between these)\n");
      i = rows.size() - kEnds;
    }
    text += rows[i];
  }
  const int64_t host = plan.host_memory();
  if (host > 0) {
    absl::StrAppend(&text, "          on the host, at most ", BytesText(host), " of a rank",
                    plan.host_limit > 0 ? ", which has " + BytesText(static_cast<int64_t>(plan.host_limit))
                                        : std::string(", if it has so much (host_memory_gib of the cluster)"),
                    ": the second buffer of saves in the background\n");
  }
  const StagePlan& fullest = plan.stages[static_cast<size_t>(plan.fullest)];
  absl::StrAppend(&text, "          fullest: stage ", plan.fullest, ", ", BytesText(plan.reserved()), " reserved",
                  WhenFullest(plan), "\n");
  if (plan.memory_limit > 0) {
    const double share = static_cast<double>(fullest.memory.reserved) / plan.memory_limit;
    absl::StrAppendFormat(&text, "          %s: %.1f%% of the %s that a rank has for tensors\n",
                          plan.fits() ? "fits" : "DOES NOT FIT", 100 * share,
                          BytesText(static_cast<int64_t>(plan.memory_limit)));
  }
  return text;
}

std::string LayoutText(const RunConfig& config) {
  const ParallelConfig& parallel = config.parallel();
  std::string text = absl::StrCat(MeshText(parallel), ", micro-batch ", config.training().micro_batch());
  if (parallel.pipeline() > 1) absl::StrAppend(&text, ", ", ScheduleText(parallel));
  absl::StrAppend(&text, ", recompute ", ParallelConfig::Recompute_Name(parallel.recompute()));
  if (parallel.context() > 1) {
    absl::StrAppend(&text, ", context by ", ParallelConfig::ContextMethod_Name(parallel.context_method()));
  }
  if (parallel.data() * parallel.context() > 1) {
    absl::StrAppend(&text, ", ZeRO ", ParallelConfig::Zero_Name(parallel.zero()));
  }
  if (parallel.replicas() > 1) absl::StrAppend(&text, " in ", parallel.replicas(), " replicas");
  if (parallel.tensor() > 1) absl::StrAppend(&text, ", sequence parallel ", parallel.sequence_parallel() ? "on" : "off");
  return text;
}

std::string ReportSearch(const SearchResult& result, double memory_limit, int most) {
  std::string text = absl::StrFormat("layouts   %d tried, %d meshes fit; the fastest of each mesh:\n", result.tried,
                                     static_cast<int>(result.fits.size()));
  if (!result.fits.empty()) {
    absl::StrAppendFormat(&text, "          %3s %10s %7s %7s %12s  %s\n", "", "step", "MFU", "bubble", "reserved GiB",
                          "layout");
  }
  for (size_t i = 0; i < result.fits.size() && static_cast<int>(i) < most; ++i) {
    const Layout& layout = result.fits[i];
    absl::StrAppendFormat(&text, "          %3d %10s %6.1f%% %6.1f%% %12.1f  %s\n", i + 1, Duration(layout.seconds),
                          100 * layout.utilisation, 100 * layout.bubble, Gib(layout.reserved),
                          LayoutText(layout.config));
  }
  if (result.too_large.empty()) return text;
  absl::StrAppendFormat(&text, "too large %d more layouts, even with all that saves memory; the nearest to the %.1f GiB:\n",
                        static_cast<int>(result.too_large.size()), memory_limit / kGib);
  for (size_t i = 0; i < result.too_large.size() && static_cast<int>(i) < std::max(1, most / 2); ++i) {
    const Layout& layout = result.too_large[i];
    std::vector<std::string> parts;
    for (int purpose = 0; purpose < kPurposes; ++purpose) {
      const int64_t bytes = layout.memory.peak[static_cast<size_t>(purpose)];
      if (Gib(bytes) >= 0.05) {
        parts.push_back(absl::StrFormat("%s %.1f", Name(static_cast<Purpose>(purpose)), Gib(bytes)));
      }
    }
    absl::StrAppendFormat(&text, "          %.1f GiB (%s): %s\n", Gib(layout.reserved), absl::StrJoin(parts, ", "),
                          LayoutText(layout.config));
  }
  return text;
}

std::string ReportSchedules(const std::vector<ScheduleRow>& rows) {
  std::string text = absl::StrFormat("schedules of this mesh, fastest first\n          %10s %12s %12s %12s  %s\n", "step",
                                     "idle within", "barrier", "reserved GiB", "schedule");
  const ScheduleRow* interleaved = nullptr;
  for (const ScheduleRow& row : rows) {
    const ParallelConfig& parallel = row.config.parallel();
    absl::StrAppendFormat(&text, "          %10s %12s %12s %12.1f  %s%s\n", Duration(row.seconds),
                          Duration(row.idle_within), Duration(row.barrier), Gib(row.reserved), ScheduleText(parallel),
                          row.fits ? "" : ", does not fit");
    const bool first = interleaved == nullptr && row.fits;
    if (first && parallel.schedule() == ParallelConfig::INTERLEAVED) interleaved = &row;
  }
  absl::StrAppend(&text, "          idle within: where it is longest, of a stage between its first and last computation; ",
                  "barrier: of the step, because all stages wait for the last before the next one\n          ");
  if (interleaved == nullptr) return text + "no interleaved 1F1B is legal here and fits\n";
  const double more = interleaved->seconds / rows.front().seconds - 1;
  const std::string name = ScheduleText(interleaved->config.parallel());
  constexpr double kAsGood = 0.005;
  return text + (more < kAsGood ? absl::StrCat(name, " is as good as the best\n")
                                : absl::StrFormat("%s takes %.1f%% longer than the best\n", name, 100 * more));
}

std::string ReportFoundSchedule(const Plan& plan) {
  constexpr size_t kStages = 8, kWidth = 110;
  std::string text = "schedule  found, F forward, I and W backward of inputs and weights:\n";
  for (size_t s = 0; s < std::min(kStages, plan.actions.size()); ++s) {
    std::vector<Action> computations;
    for (const Action& action : plan.actions[s]) {
      const bool message =
          action.kind == ActionKind::kSendActivation || action.kind == ActionKind::kReceiveActivation ||
          action.kind == ActionKind::kSendGradient || action.kind == ActionKind::kReceiveGradient;
      if (!message) computations.push_back(action);
    }
    std::string list = ToString(computations);
    if (list.size() > kWidth) list = list.substr(0, list.rfind(' ', kWidth)) + " ...";
    absl::StrAppendFormat(&text, "          stage %-3d %s\n", s, list);
  }
  if (plan.actions.size() > kStages) absl::StrAppend(&text, "          ... of ", plan.actions.size(), " stages\n");
  return text;
}

std::string ReportSearchTimes(const ScheduleSearchConfig& times, double step_seconds) {
  const auto list = [](const google::protobuf::RepeatedField<double>& each) {
    return absl::StrJoin(each, ", ", [](std::string* out, double x) { absl::StrAppendFormat(out, "%.4g", x); });
  };
  return absl::StrFormat(
      "times     of this cluster, with which a step takes %s:\n          parallel { schedule_search { forward: [%s] "
      "backward_input: [%s] backward_weight: [%s] message: %.4g } }\n",
      Duration(step_seconds), list(times.forward()), list(times.backward_input()), list(times.backward_weight()),
      times.message());
}

std::string ReportPlan(const RunConfig& config, const Cluster& cluster, const Plan& plan, double train_tokens) {
  const ModelConfig& model = config.model();
  const SampleSize sample = SampleSizeOf(model);
  const int global_batch = config.training().global_batch();
  std::string text = absl::StrCat(
      "model     ", ModelInWords(model), "; ", ShortCount(static_cast<double>(plan.parameters)), " parameters (",
      plan.parameters, ")",
      plan.trained_parameters == plan.parameters
          ? ""
          : absl::StrCat(", of which ", ShortCount(static_cast<double>(plan.trained_parameters)), " are trained"),
      "\n");
  if (!cluster.device().empty()) {
    const int per_rank = DevicesPerRank(config, cluster, plan.ranks);
    absl::StrAppend(&text, "cluster   ", plan.ranks, plan.ranks == 1 ? " rank of " : " ranks of ", per_rank, " x ",
                    cluster.device(), ", nodes of ", cluster.devices_per_node(), "\n");
  }
  absl::StrAppend(&text, "layout    ", LayoutText(config), ", ",
                  TrainingConfig::Precision_Name(config.training().precision()), "\n");
  absl::StrAppend(&text, "batch     ",
                  sample.images ? sample.Of(global_batch)
                                : absl::StrCat(global_batch, " x ", sample.text, " = ", ShortCount(plan.tokens), " tokens"),
                  " a step, ", plan.micro_batches, plan.micro_batches == 1 ? " micro-batch of " : " micro-batches of ",
                  config.training().micro_batch(), "\n");
  text += MemoryTable(plan);
  text += Sent(plan);
  absl::StrAppend(&text, "compute   ", FlopsText(plan.model_flops), " a step of the model (", TrainingFlopsRule(config),
                  "); ", FlopsText(plan.counted_flops), " of products as they will run\n");
  if (plan.step_seconds > 0) {
    text += Times(plan, sample, train_tokens / static_cast<double>(TokensOfSample(model)), global_batch);
  }
  return text;
}

}  // namespace trefoil
