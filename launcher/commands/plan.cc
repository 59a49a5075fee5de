#include "launcher/commands/commands.h"

#include <absl/strings/match.h>
#include <gflags/gflags.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <iostream>
#include <set>

#include "launcher/config/config.h"
#include "launcher/flags/top.h"
#include "launcher/given_flags.h"
#include "launcher/prepare.h"
#include "launcher/report/describe.h"
#include "planner/report/context_report.h"
#include "planner/report/plan_report.h"
#include "planner/report/ranks_picture.h"
#include "planner/report/timeline.h"
#include "runtime/number_text.h"
#include "training/saving/state_snapshot.h"

DEFINE_string(cluster, "",
              "The machines: a file (planner/cluster.proto in text format, `trefoil calibrate` writes one) or the name "
              "of one that is built in, such as selene_a100. Without it memory, FLOPs and bytes are planned, but no "
              "times.");
DEFINE_int32(gpus, 0, "Ranks. 0: what parallel.tensor, pipeline and data ask for.");
DEFINE_bool(search, false,
            "Try the layouts of --gpus ranks and list the fastest that fit. What --set gives of the layout stays.");
DEFINE_bool(schedules, false, "List what each schedule would take on this mesh, and what each loses between steps.");
DEFINE_string(timeline, "", "Write the step as a Chrome trace (ui.perfetto.dev) to this file.");
DEFINE_string(picture, "", "Write the step as a picture (SVG) to this file.");
DEFINE_string(ranks_picture, "", "Write what lies on which rank as a picture (SVG) to this file.");
DEFINE_double(train_tokens, 0, "Tokens to say the days for. 0: those of the config's steps.");

namespace trefoil {
namespace {

// The fields of parallel and training that the command line sets itself: `--set parallel.tensor=8`,
// `--set 'parallel=tensor: 8'`.
std::set<std::string> Pinned(const std::vector<std::string>& sets) {
  std::set<std::string> pinned;
  for (const std::string& set : sets) {
    const auto pin = [&](const google::protobuf::Descriptor* room, const std::string& name) {
      for (int i = 0; i < room->field_count(); ++i) {
        const std::string& field = room->field(i)->name();
        const bool alone = absl::StartsWith(set, name + "." + field + "=");
        const bool nested = absl::StartsWith(set, name + "=") && absl::StrContains(set, field + ":");
        if (alone || nested) pinned.insert(field);
      }
    };
    pin(ParallelConfig::descriptor(), "parallel");
    pin(TrainingConfig::descriptor(), "training");
  }
  return pinned;
}

// A layout that the config's own fields need not fit: the search finds others.
// What the heap grows by. A search frees its last layout's profile before it makes the next one's: in pages that go back
// to the system each time, that took a fifth of its time.
constexpr int kHeapPad = 64 << 20;

absl::Status RunSearch(FileSystem& fs, const Cluster& cluster, std::vector<std::string> sets) {
  if (FLAGS_gpus < 1) {
    return absl::InvalidArgumentError("--gpus: " + std::to_string(FLAGS_gpus) +
                                      ", --search needs the number of ranks, at least 1; nearest legal: 1");
  }
  const int top = IsGiven("top") ? FLAGS_top : 10;
  if (top < 1) {
    return absl::InvalidArgumentError("--top: " + std::to_string(top) + ", must be at least 1; nearest legal: 1");
  }
  const SearchOptions options = {
      .pinned = Pinned(sets),
      .simulated = std::max(24, 2 * top),
      .progress = isatty(STDERR_FILENO) == 0
                      ? std::function<void(int, int)>()
                      : [](int done, int all) {
                          std::fprintf(stderr, "\rtried %d of %d layouts%s", done, all, done == all ? "\n" : "");
                        }};
  TREFOIL_ASSIGN_OR_RETURN(const RunConfig config,
                           PrepareConfigToSearch(fs, sets, cluster.gpu(), options.pinned));
  mallopt(M_TOP_PAD, kHeapPad);
  mallopt(M_TRIM_THRESHOLD, kHeapPad);
  Planner planner(cluster);
  const SearchResult result = SearchLayouts(config, FLAGS_gpus, planner, options);
  if (result.tried == 0) {
    return absl::InvalidArgumentError(
        "--gpus: " + std::to_string(FLAGS_gpus) + ", has no legal layout for training.global_batch " +
        std::to_string(config.training().global_batch()) + ", model.layers " + std::to_string(config.model().layers()) +
        " and what --set gives; data x micro_batch must divide the batch, pipeline x chunks the layers");
  }
  std::cout << ReportSearch(result, planner.MemoryLimit(config, FLAGS_gpus), top) << std::flush;
  return absl::OkStatus();
}

Timeline TimelineOf(const RunConfig& config, const Plan& plan) {
  Timeline timeline = {.title = ShortCount(static_cast<double>(plan.parameters)) + " parameters, " + LayoutText(config),
                       .chunks = config.parallel().chunks(),
                       .step_seconds = plan.step_seconds,
                       .stages = {},
                       .memory_limit = static_cast<int64_t>(plan.memory_limit)};
  double all_reduced = 0;
  for (const StagePlan& stage : plan.stages) all_reduced = std::max(all_reduced, stage.reduced);
  for (size_t s = 0; s < plan.stages.size(); ++s) {
    const StagePlan& stage = plan.stages[s];
    Timeline::Stage& drawn = timeline.stages.emplace_back();
    drawn.actions = plan.actions[s];
    drawn.spans = plan.schedule.spans[s];
    const auto add = [&](double seconds, int64_t bytes) {  // where it changes
      if (drawn.memory.empty() || drawn.memory.back().bytes != bytes) drawn.memory.push_back({seconds, bytes});
    };
    for (size_t i = 0; i < stage.over_actions.size(); ++i) {
      add(drawn.spans[i].begin, stage.over_actions[i].most);
      add(drawn.spans[i].end, stage.over_actions[i].after);
    }
    drawn.extras.push_back({"reduce gradients", {stage.schedule_end, stage.reduced}});
    drawn.extras.push_back({"optimizer", {all_reduced, stage.updated}});
  }
  return timeline;
}

absl::Status WriteTimeline(FileSystem& fs, const RunConfig& config, const Plan& plan) {
  if (FLAGS_timeline.empty() && FLAGS_picture.empty()) return absl::OkStatus();
  const Timeline timeline = TimelineOf(config, plan);
  if (!FLAGS_timeline.empty()) {
    TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, FLAGS_timeline, TimelineTrace(timeline)));
    std::cout << "timeline  " << FLAGS_timeline << ", for ui.perfetto.dev or chrome://tracing\n";
  }
  if (!FLAGS_picture.empty()) {
    TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, FLAGS_picture, TimelinePicture(timeline)));
    std::cout << "picture   " << FLAGS_picture << "\n";
  }
  return absl::OkStatus();
}

absl::Status WriteRanksPicture(FileSystem& fs, const RunConfig& config) {
  if (FLAGS_ranks_picture.empty()) return absl::OkStatus();
  TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, FLAGS_ranks_picture, RanksPicture(config)));
  std::cout << "picture   " << FLAGS_ranks_picture << ", of what lies where\n";
  return absl::OkStatus();
}

// What cannot be given together.
absl::Status CheckFlags() {
  if (FLAGS_search && !FLAGS_ranks_picture.empty()) {
    return absl::InvalidArgumentError("--ranks_picture: is of one layout, so it cannot be given with --search");
  }
  const bool drawn = !FLAGS_timeline.empty() || !FLAGS_picture.empty();
  const char* flag = FLAGS_timeline.empty() ? "--picture" : "--timeline";
  if (drawn && FLAGS_cluster.empty()) {
    return absl::InvalidArgumentError(std::string(flag) +
                                      ": needs times, so give --cluster, a file or a name such as selene_a100");
  }
  if (drawn && FLAGS_search) {
    return absl::InvalidArgumentError(std::string(flag) + ": is of one layout, so it cannot be given with --search");
  }
  if (FLAGS_search && FLAGS_cluster.empty()) {
    return absl::InvalidArgumentError("--search: needs times, so give --cluster, a file or a name such as selene_a100");
  }
  if (FLAGS_schedules && FLAGS_cluster.empty()) {
    return absl::InvalidArgumentError("--schedules: needs times, so give --cluster, a file or a name such as selene_a100");
  }
  if (FLAGS_schedules && FLAGS_search) {
    return absl::InvalidArgumentError("--schedules: is of one mesh, so it cannot be given with --search");
  }
  if (!FLAGS_search && IsGiven("top")) {
    return absl::InvalidArgumentError("--top: lists layouts, so it needs --search; nearest legal: leave it out");
  }
  if (FLAGS_search && IsGiven("train_tokens")) {
    return absl::InvalidArgumentError("--train_tokens: is of one layout, so it cannot be given with --search");
  }
  if (FLAGS_cluster.empty() && IsGiven("train_tokens")) {
    return absl::InvalidArgumentError("--train_tokens: needs times, so give --cluster, a file or a name such as selene_a100");
  }
  if (FLAGS_train_tokens < 0 || !std::isfinite(FLAGS_train_tokens)) {
    return absl::InvalidArgumentError("--train_tokens: " + std::to_string(FLAGS_train_tokens) +
                                      ", must not be negative; nearest legal: 0");
  }
  return absl::OkStatus();
}

absl::Status RunPlan(FileSystem& fs, const std::vector<std::string>& sets) {
  if (FLAGS_gpus < 0) {
    return absl::InvalidArgumentError("--gpus: " + std::to_string(FLAGS_gpus) +
                                      ", must not be negative; nearest legal: 0");
  }
  TREFOIL_RETURN_IF_ERROR(CheckFlags());
  Cluster cluster;
  if (!FLAGS_cluster.empty()) {
    TREFOIL_ASSIGN_OR_RETURN(cluster, ReadCluster(fs, FLAGS_cluster));
  }
  if (FLAGS_search) return RunSearch(fs, cluster, sets);
  int ranks = FLAGS_gpus;
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, PrepareConfigToPlan(fs, sets, cluster.gpu(), &ranks));
  Planner planner(cluster);
  const bool background = SavesInBackground(config.training());
  const Plan plan = PlanWithSaves(planner, &config, ranks);
  const double tokens = FLAGS_train_tokens > 0 ? FLAGS_train_tokens : plan.tokens * config.training().steps();
  std::cout << ReportPlan(config, cluster, plan, tokens) << ReportContext(config, plan, planner);
  if (background && !SavesInBackground(config.training())) std::cout << SavesInForeground(config);
  if (config.parallel().schedule() == ParallelConfig::AUTO) {
    std::cout << ReportFoundSchedule(plan);
    if (plan.step_seconds > 0) {
      RunConfig timed = config;
      *timed.mutable_parallel()->mutable_schedule_search() = planner.SearchTimes(config, ranks);
      std::cout << ReportSearchTimes(timed.parallel().schedule_search(), planner.Make(timed, ranks).step_seconds);
    }
  }
  if (FLAGS_schedules) std::cout << ReportSchedules(CompareSchedules(config, ranks, planner));
  std::cout << std::flush;
  TREFOIL_RETURN_IF_ERROR(WriteTimeline(fs, config, plan));
  return WriteRanksPicture(fs, config);
}

}  // namespace

int PlanMain(int argc, char** argv) {
  const absl::StatusOr<std::vector<std::string>> sets = TakeSets(&argc, argv);
  if (!sets.ok()) return Fail("plan", sets.status(), /*speak=*/true);
  const absl::Status status = RunPlan(FileSystem::Posix(), *sets);
  return status.ok() ? 0 : Fail("plan", status, /*speak=*/true);
}

}  // namespace trefoil
