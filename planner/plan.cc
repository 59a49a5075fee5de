#include "planner/plan.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "model/model.h"
#include "planner/gather_plan.h"
#include "training/actions.h"
#include "training/config/micro_batches.h"
#include "training/fine_tuning.h"
#include "training/saving/state_snapshot.h"
#include "training/worker.h"

namespace trefoil {
namespace {

Mesh MeshOf(const RunConfig& config, int rank) {
  return Mesh(MeshSizes(config.parallel()), rank);
}

// One of a stage's ranks that needs most: where the vocabulary does not divide, the last has a row more than the first.
int RankOfStage(const RunConfig& config, int stage) {
  const Mesh mesh = MeshOf(config, 0);
  const int tensor = mesh.size(Axis::kTensor);
  const int last = config.model().vocabulary() % tensor == 0 ? 0 : tensor - 1;
  return mesh.RankAt(Axis::kPipeline, stage) + last;
}

// Of each module, how much of it is trained, and whether there is a backward through it.
std::vector<std::string> TrainedParts(const RunConfig& config, size_t modules) {
  const ParameterTable table = DeclareRun(config);
  std::vector<int64_t> trained(modules);
  for (const Parameter& parameter : table.all()) {
    if (!parameter.trained()) continue;
    trained[static_cast<size_t>(parameter.module)] += parameter.shape.elements();
    for (const int module : parameter.tied_modules) trained[static_cast<size_t>(module)] += parameter.shape.elements();
  }
  const int first_trained = table.first_trained_module();
  std::vector<std::string> parts;
  for (size_t i = 0; i < modules; ++i) {
    const bool backward = static_cast<int>(i) >= first_trained;
    parts.push_back(absl::StrCat(trained[i], backward ? "" : " without backward"));
  }
  return parts;
}

// Of each stage, what makes it like others: how many modules of which kind each chunk has, which of them are trained,
// and whether it passes its result on to another chunk of the stage.
std::vector<std::string> Likenesses(const RunConfig& config) {
  const VirtualStages virtual_stages(config.parallel());
  const std::vector<ModuleSpec> modules = ModulesOf(config.model());
  const auto numbers = ModulesOfVirtualStages(modules, virtual_stages);
  const std::vector<std::string> trained = TrainedParts(config, modules.size());
  std::vector<std::string> stages(static_cast<size_t>(virtual_stages.stages()));
  for (int stage = 0; stage < virtual_stages.stages(); ++stage) {
    std::string& text = stages[static_cast<size_t>(stage)];
    for (int chunk = 0; chunk < virtual_stages.chunks(); ++chunk) {
      const int here = virtual_stages.Of(stage, chunk);
      std::vector<std::pair<std::string, int>> kinds;
      for (const int number : numbers[static_cast<size_t>(here)]) {
        const auto i = static_cast<size_t>(number);
        const std::string kind = absl::StrCat(modules[i].kind, " (", trained[i], ")");
        if (kinds.empty() || kinds.back().first != kind) kinds.emplace_back(kind, 0);
        ++kinds.back().second;
      }
      for (const auto& [kind, count] : kinds) {
        text.append(kind).append(" ").append(std::to_string(count)).append(" ");
      }
      text += here < virtual_stages.last() && virtual_stages.StageOf(here + 1) == stage ? "= " : "; ";
    }
  }
  return stages;
}

bool IsOfWeights(const Action& action) { return action.kind == ActionKind::kBackwardWeight; }

// How often each kind of action is in a list.
std::map<StageProfile::Key, int> CountKinds(const StageProfile& profile, const std::vector<Action>& actions,
                                            int micro_batches) {
  std::map<StageProfile::Key, int> counts;
  for (const Action& action : actions) ++counts[profile.KeyOf(action, micro_batches)];
  return counts;
}

// A stage's computations of one micro-batch after the other, backwards in two.
std::vector<Action> OneByOne(int chunks, int micro_batches) {
  std::vector<Action> actions;
  for (int i = 0; i < micro_batches; ++i) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      actions.push_back({.kind = ActionKind::kForward, .micro_batch = i, .chunk = chunk});
    }
    for (int chunk = chunks; chunk-- > 0;) {
      actions.push_back({.kind = ActionKind::kBackwardInput, .micro_batch = i, .chunk = chunk});
      actions.push_back({.kind = ActionKind::kBackwardWeight, .micro_batch = i, .chunk = chunk});
    }
  }
  return actions;
}

// Of stages that take so many cores each: ranks that share cores take turns, and few leave more memory to each. 1 for GPUs.
SharedSpeed SpeedOfStages(const Cluster& cluster, int cores_of_stage) {
  const double cores = cluster.gpu() ? 0 : cluster.nodes() * cluster.devices_per_node();
  const double alone = std::max(1.0, cluster.alone_speedup());
  return [=](int active) {
    const double busy = active * cores_of_stage;
    if (cores <= 0 || busy == cores) return 1.0;
    if (busy > cores) return cores / busy;
    return alone + (1 - alone) * std::max(0.0, busy - 1) / (cores - 1);
  };
}

// The main queue's time within a part, and one beside it in which the part's tasks run one after the other from
// `queue_end` on; returns the queue's end.
double RunBeside(const PartCost& part, double begin, double queue_end) {
  for (const PartCost::Beside& task : part.beside) {
    queue_end = std::max(queue_end, begin + task.start) + task.seconds;
  }
  return queue_end;
}

}  // namespace

int DevicesPerRank(const RunConfig& config, const Cluster& cluster, int ranks) {
  if (cluster.gpu() || config.runtime().device() == RuntimeConfig::CUDA) return 1;
  if (config.runtime().threads() > 0) return config.runtime().threads();
  const int nodes = std::max(1, cluster.nodes());
  return std::max(1, cluster.devices_per_node() * nodes / ranks);
}

Plan PlanWithSaves(Planner& planner, RunConfig* config, int ranks, double host_limit) {
  Plan plan = planner.Make(*config, ranks);
  if (host_limit > 0) plan.host_limit = host_limit;
  const bool host_fits = plan.host_limit <= 0 || static_cast<double>(plan.host_memory()) <= plan.host_limit;
  if (!SavesInBackground(config->training()) || (plan.fits() && host_fits)) return plan;
  RunConfig foreground = *config;
  foreground.mutable_training()->mutable_checkpoint()->set_writing(CheckpointConfig::FOREGROUND);
  Plan without = planner.Make(foreground, ranks);
  if (!without.fits()) return plan;
  *config = foreground;
  return without;
}

Planner::Planner(const Cluster& cluster) : cluster_(cluster) {}
Planner::~Planner() = default;

const StageProfile& Planner::Profile(const RunConfig& config, const std::vector<Action>& actions, int ranks, int rank,
                                     const std::vector<std::string>& likenesses, TimeModel& time) {
  RunConfig part = config;  // what a profile depends on
  const int micro_batches = MicroBatchesPerStep(config);
  part.clear_folder();
  part.clear_data();
  part.mutable_data()->set_mask_documents(config.data().mask_documents());
  // Steps matter for whether there are saves before the last.
  part.mutable_training()->mutable_checkpoint()->clear_every_steps();
  if (!SavesInBackground(config.training())) {
    part.mutable_training()->mutable_checkpoint()->set_writing(CheckpointConfig::FOREGROUND);
  }
  part.mutable_training()->set_steps(0);
  part.mutable_training()->set_global_batch(0);
  part.mutable_parallel()->set_pipeline(0);
  const auto stage = static_cast<size_t>(MeshOf(config, rank).index(Axis::kPipeline));
  const std::string key = part.SerializeAsString() + "/" + likenesses[stage] + "/" +
                          ProfiledText(actions, micro_batches) + "/" +
                          std::to_string(MeshOf(config, rank).index(Axis::kTensor)) + "/" +
                          // Whose shard of each bucket it is.
                          std::to_string(MeshOf(config, rank).index({Axis::kContext, Axis::kData}));
  const auto [found, is_new] = profiles_.try_emplace(key);
  if (is_new) found->second = ProfileStage(config, actions, ranks, rank, time);
  return found->second;
}

MemoryUse Planner::MemoryOf(const RunConfig& config, int ranks, int rank) {
  TimeModel time(cluster_, DevicesPerRank(config, cluster_, ranks));
  const std::vector<Action> actions = ActionsOf(config, rank);
  const StageProfile& profile = Profile(config, actions, ranks, rank, Likenesses(config), time);
  return FoldMemory(profile, actions, MicroBatchesPerStep(config));
}

double Planner::MemoryLimit(const RunConfig& config, int ranks) const {
  constexpr double kGib = 1 << 30;
  const double own = config.runtime().memory_limit_gib() * kGib;
  if (cluster_.memory_gib() <= 0) return own;
  const double shared = cluster_.gpu() ? 1 : std::max(1, ranks / std::max(1, cluster_.nodes()));
  const double of_device = (cluster_.memory_gib() / shared - cluster_.process_gib()) * kGib;
  return own > 0 ? std::min(own, of_device) : of_device;
}

Estimate Planner::EstimateStep(const RunConfig& config, int ranks) {
  TimeModel time(cluster_, DevicesPerRank(config, cluster_, ranks));
  const int stages = config.parallel().pipeline(), micro_batches = MicroBatchesPerStep(config);
  Estimate estimate;
  double busiest = 0, after = 0;
  // Of stages that are alike the first, which holds most activations.
  const std::vector<std::string> likenesses = Likenesses(config);
  std::set<std::string_view> seen;
  const bool searched = EntryOf(config.parallel().schedule()).searched();
  const std::vector<std::vector<Action>> found = searched ? ActionsOfStages(config) : std::vector<std::vector<Action>>();
  double share = 1;  // of the work of a micro-batch, that the last stage waits for at the beginning or the first at the end
  for (int s = 0; s < stages; ++s) {
    if (!seen.insert(likenesses[static_cast<size_t>(s)]).second) continue;
    const int rank = RankOfStage(config, s);
    const std::vector<Action> actions = searched ? found[static_cast<size_t>(s)] : ActionsOf(config, rank);
    // Nobody waits for weight gradients that come by themselves, which fill as much as they take.
    if (std::any_of(actions.begin(), actions.end(), IsOfWeights)) share = 1.0 / 3;
    const StageProfile& profile = Profile(config, actions, ranks, rank, likenesses, time);
    const MemoryUse memory = FoldMemory(profile, actions, micro_batches);
    if (memory.reserved > estimate.memory.reserved) estimate.memory = memory;
    double busy = 0;
    for (const auto& [key, count] : CountKinds(profile, actions, micro_batches)) {
      busy += count * profile.steady.actions.at(key).seconds;
    }
    busy += PlanGathers(profile, actions, micro_batches, cluster_.gpu()).seconds;
    busiest = std::max(busiest, busy);
    after = std::max(after, profile.steady.reduce.seconds + profile.steady.update.seconds);
  }
  const double idle = share * (stages - 1.0) / config.parallel().chunks() / micro_batches;
  estimate.seconds = busiest * (1 + idle) + after;
  const double limit = MemoryLimit(config, ranks);
  estimate.fits = limit <= 0 || static_cast<double>(estimate.memory.reserved) <= limit;
  return estimate;
}

ScheduleSearchConfig Planner::SearchTimes(const RunConfig& config, int ranks) {
  TimeModel time(cluster_, DevicesPerRank(config, cluster_, ranks));
  RunConfig few = config;
  SetMicroBatchesPerStep(3, &few);
  const VirtualStages virtual_stages(config.parallel());
  ScheduleSearchConfig times = config.parallel().schedule_search();
  for (auto* each : {times.mutable_forward(), times.mutable_backward_input(), times.mutable_backward_weight()}) {
    each->Resize(virtual_stages.size(), 0);
  }
  const std::vector<std::string> likenesses = Likenesses(config);
  std::map<std::string_view, StageProfile> profiles;
  double message = 0;
  for (int s = 0; s < virtual_stages.stages(); ++s) {
    const std::vector<Action> actions = WithMessages(OneByOne(virtual_stages.chunks(), 3), virtual_stages, s);
    const int rank = RankOfStage(config, s);
    const auto [found, is_new] = profiles.try_emplace(likenesses[static_cast<size_t>(s)]);
    if (is_new) found->second = ProfileStage(few, actions, ranks, rank, time);
    for (const Action& action : actions) {
      if (action.micro_batch != 1) continue;
      const PartCost& cost = found->second.CostOf(found->second.steady, action, 3);
      const int v = virtual_stages.Of(s, action.chunk);
      const auto set = [&](google::protobuf::RepeatedField<double>* each) { each->Set(v, 1e3 * cost.seconds); };
      switch (action.kind) {
        case ActionKind::kForward: set(times.mutable_forward()); break;
        case ActionKind::kBackwardInput: set(times.mutable_backward_input()); break;
        case ActionKind::kBackwardWeight: set(times.mutable_backward_weight()); break;
        case ActionKind::kReceiveActivation:
        case ActionKind::kReceiveGradient:
          message = std::max(message, time.MessageSeconds(RankOfStage(config, action.peer), rank, cost.received));
          break;
        default: break;
      }
    }
  }
  times.set_message(1e3 * message);
  return times;
}

Plan Planner::Make(const RunConfig& config, int ranks) {
  const int per_rank = DevicesPerRank(config, cluster_, ranks);
  TimeModel time(cluster_, per_rank);
  const int stages = config.parallel().pipeline();
  const bool timed = cluster_.ops_size() > 0;
  Plan plan;
  plan.ranks = ranks;
  plan.micro_batches = MicroBatchesPerStep(config);
  const ParameterTable table = DeclareRun(config);
  plan.parameters = table.elements();
  plan.trained_parameters = table.trained_elements();
  plan.tokens = static_cast<double>(config.training().global_batch()) * static_cast<double>(TokensOfSample(config.model()));
  plan.model_flops = TrainingFlops(config) * config.training().global_batch();
  plan.peak_flops = time.Peak(WorkingDType(config.training().precision())) * ranks;

  const std::vector<std::string> likenesses = Likenesses(config);
  std::vector<const StageProfile*> profiles;
  std::vector<GatherPlan> gathers;
  plan.actions = ActionsOfStages(config);
  for (int s = 0; s < stages; ++s) {
    StagePlan& stage = plan.stages.emplace_back();
    stage.rank = RankOfStage(config, s);
    const std::vector<Action>& actions = plan.actions[static_cast<size_t>(s)];
    const StageProfile& profile = Profile(config, actions, ranks, stage.rank, likenesses, time);
    profiles.push_back(&profile);
    stage.memory = FoldMemory(profile, actions, plan.micro_batches);
    if (stage.memory.reserved > plan.reserved()) plan.fullest = s;
    const StageProfile::Step& step = profile.steady;
    const auto add = [&](const PartCost& part, double times) {
      for (const auto& [op, total] : part.ops) stage.ops[op].Add(total, times);
      for (const auto& [group, total] : part.sent) stage.sent[group].Add(total, times);
    };
    for (const auto& [key, count] : CountKinds(profile, actions, plan.micro_batches)) add(step.actions.at(key), count);
    const GatherPlan& of_stage =
        gathers.emplace_back(PlanGathers(profile, actions, plan.micro_batches, cluster_.gpu()));
    for (const auto& [group, total] : of_stage.sent) stage.sent[group].Add(total);
    stage.gathers = of_stage.gathers;
    stage.gathers_seconds = of_stage.seconds;
    add(step.reduce, 1);
    add(step.update, 1);
    for (const auto& [op, total] : stage.ops) {
      if (op.starts_with("matmul") || op.starts_with("weight") || op.starts_with("attention")) {
        plan.counted_flops += total.flops * ranks / stages;
      }
    }
  }

  const SharedSpeed speed = SpeedOfStages(cluster_, ranks / stages * per_rank);
  const auto seconds = [&](int s, const Action& action) {
    const StageProfile& profile = *profiles[static_cast<size_t>(s)];
    const bool receive = action.kind == ActionKind::kReceiveActivation || action.kind == ActionKind::kReceiveGradient;
    const PartCost& cost = profile.CostOf(profile.steady, action, plan.micro_batches);
    if (!receive) return cost.seconds + gathers[static_cast<size_t>(s)].SecondsOf(action);
    return time.MessageSeconds(plan.stages[static_cast<size_t>(action.peer)].rank,
                               plan.stages[static_cast<size_t>(s)].rank, cost.received);
  };
  const bool gpu = cluster_.gpu() || config.runtime().device() == RuntimeConfig::CUDA;
  plan.schedule = SimulateSchedule(plan.actions, seconds, speed, /*receives_early=*/!gpu);

  double all_reduced = 0;
  for (int s = 0; s < stages; ++s) {
    const auto i = static_cast<size_t>(s);
    StagePlan& stage = plan.stages[i];
    const StageProfile& profile = *profiles[i];
    double queue_end = 0;
    for (size_t a = 0; a < plan.actions[i].size(); ++a) {
      const PartCost& cost = profile.CostOf(profile.steady, plan.actions[i][a], plan.micro_batches);
      queue_end = RunBeside(cost, plan.schedule.spans[i][a].begin, queue_end);
    }
    stage.busy_seconds = plan.schedule.busy[i];
    stage.schedule_end = plan.schedule.spans[i].back().end;
    stage.reduced = std::max(stage.schedule_end, queue_end) + profile.steady.reduce.seconds / speed(stages);
    all_reduced = std::max(all_reduced, stage.reduced);
    plan.bubble += plan.schedule.makespan > 0 ? (1 - stage.busy_seconds / plan.schedule.makespan) / stages : 0;
    if (timed) stage.over_actions = MemoryOverActions(profile, plan.actions[i], plan.micro_batches);
  }
  // Every rank needs the norm of all gradients.
  for (int s = 0; s < stages; ++s) {
    const PartCost& update = profiles[static_cast<size_t>(s)]->steady.update;
    StagePlan& stage = plan.stages[static_cast<size_t>(s)];
    stage.updated = std::max(all_reduced + update.seconds / speed(stages), RunBeside(update, all_reduced, all_reduced));
    plan.step_seconds = std::max(plan.step_seconds, stage.updated);
  }

  plan.memory_limit = MemoryLimit(config, ranks);
  if (cluster_.gpu()) plan.host_limit = cluster_.host_memory_gib() * (1 << 30) / std::max(1, cluster_.devices_per_node());
  return plan;
}

}  // namespace trefoil
