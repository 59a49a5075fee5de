#include "training/worker.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

#include "training/config/micro_batches.h"

namespace trefoil {
namespace {

// Of the two stages that hold a tied parameter, where its modules lie on two and this rank is on one of them.
std::unique_ptr<Group> TiedGroup(const ParameterTable& table, const RunConfig& config, const StagePlace& place,
                                 const Mesh& mesh, World& world, Device& device) {
  const auto modules = ModulesOfVirtualStages(config.model(), place.virtual_stages);
  const auto stage_of = [&](int module) {
    for (size_t v = 0; v < modules.size(); ++v) {
      if (std::count(modules[v].begin(), modules[v].end(), module) > 0) {
        return place.virtual_stages.StageOf(static_cast<int>(v));
      }
    }
    LOG(FATAL) << "no stage has module " << module;
  };
  std::set<std::pair<int, int>> pairs;  // of stages
  for (const Parameter& parameter : table.all()) {
    if (parameter.tied_module >= 0)
      pairs.insert(std::minmax({stage_of(parameter.module), stage_of(parameter.tied_module)}));
  }
  CHECK_LE(pairs.size(), 1u) << "tied parameters of several pairs of stages would need a group each";
  if (pairs.empty()) return nullptr;
  const auto [first, second] = *pairs.begin();
  if (first == second || (place.stage != first && place.stage != second)) return nullptr;
  return world.NewGroup("tied", {mesh.RankAt(Axis::kPipeline, first), mesh.RankAt(Axis::kPipeline, second)}, device,
                        SumsOf(config.runtime()));
}

// Groups of micro-batches whose gradients each rank adds up by itself: a power of two.
int GroupsPerRank(const RunConfig& config) {
  return std::max(1, config.training().gradient_groups() / config.parallel().data());
}

// The axes, besides those that split samples, that split tokens.
AxisSet TokenAxes(const ParallelConfig& parallel) { return parallel.sequence_parallel() ? Axis::kTensor : AxisSet(); }

std::vector<AxisSet> GroupsOf(const RunConfig& config, const ParameterTable& table) {
  std::vector<AxisSet> sets;
  for (const AxisEntry& axis : Axes()) sets.push_back(axis.axis);
  for (const Parameter& parameter : table.all()) {
    const AxisSet replicas = parameter.replicated_over();
    if (std::find(sets.begin(), sets.end(), replicas) == sets.end()) sets.push_back(replicas);
  }
  if (const AxisSet tokens = TokenAxes(config.parallel()); !tokens.empty()) sets.push_back(tokens);
  return sets;
}

Context ContextOf(const RunConfig& config, Group& tensor, Device& device, const Inspector& inspector) {
  return {.device = device,
          .tensor = tensor,
          .sequence_parallel = config.parallel().sequence_parallel(),
          .dtype = WorkingDType(config.training().precision()),
          .recompute = config.parallel().recompute(),
          .dropout_seed = config.training().seed(),
          .float8 = config.training().precision() == TrainingConfig::FP8,
          .inspector = &inspector};
}

}  // namespace

std::vector<Action> ActionsOf(const RunConfig& config, int rank) {
  const ParallelConfig& parallel = config.parallel();
  return BuildSchedule(parallel.schedule(), parallel.pipeline(), parallel.chunks(), MicroBatchesPerStep(config),
                       Mesh(MeshSizes(parallel), rank).index(Axis::kPipeline));
}

bool ReadsTokens(const RunConfig& config, int rank) {
  const int stage = Mesh(MeshSizes(config.parallel()), rank).index(Axis::kPipeline);
  const StagePlace place = {.stage = stage, .virtual_stages = VirtualStages(config.parallel())};
  const Role role = RoleOf(config.model(), Transformer::Modules(config.model(), place));
  return role.reads_inputs || role.reads_targets;
}

DType WorkingDType(TrainingConfig::Precision precision) {
  const bool bfloat16 = precision == TrainingConfig::BF16 || precision == TrainingConfig::FP8;
  return bfloat16 ? DType::kBFloat16 : DType::kFloat32;
}

Bf16Products Bf16ProductsOf(const RuntimeConfig& runtime) {
  return runtime.bf16_products() == RuntimeConfig::FLOAT32 ? Bf16Products::kFloat32 : Bf16Products::kNative;
}

RankSums SumsOf(const RuntimeConfig& runtime) {
  return runtime.sums() == RuntimeConfig::FASTEST ? RankSums::kFastest : RankSums::kOrdered;
}

Worker::Worker(const RunConfig& run, World& world, Device& device)
    : Worker(run, world, device, VirtualStages(run.parallel()), ActionsOf(run, world.rank())) {}

Worker::Worker(const RunConfig& run, World& world, Device& device, const VirtualStages& virtual_stages,
               std::vector<Action> list)
    : config(run),
      device(device),
      mesh(MeshSizes(config.parallel()), world.rank()),
      place{.stage = mesh.index(Axis::kPipeline), .virtual_stages = virtual_stages},
      table(DeclareModel(config.model())),
      modules(Transformer::Modules(config.model(), place)),
      role(RoleOf(config.model(), modules)),
      all(&world.all()),
      groups(world, mesh, device, GroupsOf(config, table), SumsOf(config.runtime())),
      tensor(&groups[Axis::kTensor]),
      data(&groups[Axis::kData]),
      pipeline(&groups[Axis::kPipeline]),
      tied(TiedGroup(table, config, place, mesh, world, device)),
      optimizer(NewOptimizer(config.training().optimizer())),
      store(table, mesh, modules, device,
            {.working = WorkingDType(config.training().precision()),
             .optimizer = optimizer->layout(),
             .split_optimizer = config.parallel().zero() == ParallelConfig::OPTIMIZER,
             .group_sums = std::countr_zero(static_cast<unsigned>(GroupsPerRank(config)))}),
      reducer(store, device, modules,
              {.groups = groups,
               .tokens = TokenAxes(config.parallel()),
               .tied = tied.get(),
               .micro_batches = MicroBatchesPerStep(config),
               // A planner's shortened step may have a number that they do not divide: its groups are not added up.
               .sum_groups = MicroBatchesPerStep(config) % GroupsPerRank(config) == 0 ? GroupsPerRank(config) : 1}),
      transformer(config.model(), store, ContextOf(config, *tensor, device, inspector), place,
                  [this](int module) { reducer.ModuleAdded(module); }),
      actions(std::move(list)) {
  CHECK_EQ(MeshSizes(config.parallel()).ranks(), world.size());
}

int Worker::micro_batches() const { return MicroBatchesPerStep(config); }

}  // namespace trefoil
