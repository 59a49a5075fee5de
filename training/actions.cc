#include "training/actions.h"

#include <map>
#include <string>
#include <utility>

#include "model/model.h"
#include "parallel/mesh.h"
#include "training/config/micro_batches.h"

namespace trefoil {
namespace {

std::vector<ChunkTimes> TimesOf(const RunConfig& config, const VirtualStages& virtual_stages) {
  const ScheduleSearchConfig& search = config.parallel().schedule_search();
  std::vector<ChunkTimes> times;
  if (search.forward_size() > 0) {
    for (int v = 0; v < virtual_stages.size(); ++v) {
      times.push_back({.forward = search.forward(v),
                       .backward_input = search.backward_input(v),
                       .backward_weight = search.backward_weight(v)});
    }
    return times;
  }
  const std::vector<ModuleSpec> modules = ModulesOf(config.model());
  const bool again = config.parallel().recompute() == ParallelConfig::FULL;
  std::map<std::string, double> flops;  // of a kind
  for (const std::vector<int>& numbers : ModulesOfVirtualStages(modules, virtual_stages)) {
    double third = 0;
    for (const int number : numbers) {
      const ModuleSpec& module = modules[static_cast<size_t>(number)];
      const auto [known, is_new] = flops.try_emplace(module.kind);
      if (is_new) known->second = module.flops();
      third += known->second / 3;
    }
    times.push_back({.forward = third, .backward_input = third * (again ? 2 : 1), .backward_weight = third});
  }
  return times;
}

bool IsSearched(const RunConfig& config) { return EntryOf(config.parallel().schedule()).searched(); }

// A stage's, of a schedule that is not searched for.
std::vector<Action> BuiltList(const RunConfig& config, int stage) {
  const ParallelConfig& parallel = config.parallel();
  return BuildSchedule(parallel.schedule(), parallel.pipeline(), parallel.chunks(), MicroBatchesPerStep(config), stage);
}

}  // namespace

ScheduleProblem ProblemOf(const RunConfig& config) {
  const ParallelConfig& parallel = config.parallel();
  const ScheduleSearchConfig& search = parallel.schedule_search();
  const VirtualStages virtual_stages(parallel);
  const int held = search.in_flight() > 0 ? search.in_flight() : parallel.pipeline();
  return {.virtual_stages = virtual_stages,
          .micro_batches = MicroBatchesPerStep(config),
          .times = TimesOf(config, virtual_stages),
          .message = search.message(),
          .in_flight = held * parallel.chunks()};
}

std::vector<std::vector<Action>> ActionsOfStages(const RunConfig& config) {
  if (IsSearched(config)) return SearchSchedule(ProblemOf(config));
  std::vector<std::vector<Action>> lists;
  for (int stage = 0; stage < config.parallel().pipeline(); ++stage) lists.push_back(BuiltList(config, stage));
  return lists;
}

std::vector<Action> ActionsOf(const RunConfig& config, int rank) {
  const int stage = Mesh(MeshSizes(config.parallel()), rank).index(Axis::kPipeline);
  if (!IsSearched(config)) return BuiltList(config, stage);
  return std::move(ActionsOfStages(config)[static_cast<size_t>(stage)]);
}

}  // namespace trefoil
