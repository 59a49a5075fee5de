#include "training/worker.h"

#include <algorithm>
#include <bit>

#include "training/config/micro_batches.h"

namespace trefoil {
namespace {

std::unique_ptr<Group> TiedGroup(const RunConfig& config, const Mesh& mesh, World& world, Device& device) {
  const int stages = mesh.size(Axis::kPipeline), stage = mesh.index(Axis::kPipeline);
  if (!RecipeOf(config.model()).tied || stages == 1 || (stage != 0 && stage != stages - 1)) return nullptr;
  return world.NewGroup("tied", {mesh.RankAt(Axis::kPipeline, 0), mesh.RankAt(Axis::kPipeline, stages - 1)}, device);
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
  const Mesh mesh(MeshSizes(config.parallel()), rank);
  const int stage = mesh.index(Axis::kPipeline);
  return stage == 0 || stage == mesh.size(Axis::kPipeline) - 1;
}

DType WorkingDType(TrainingConfig::Precision precision) {
  const bool bfloat16 = precision == TrainingConfig::BF16 || precision == TrainingConfig::FP8;
  return bfloat16 ? DType::kBFloat16 : DType::kFloat32;
}

Bf16Products Bf16ProductsOf(const RuntimeConfig& runtime) {
  return runtime.bf16_products() == RuntimeConfig::FLOAT32 ? Bf16Products::kFloat32 : Bf16Products::kNative;
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
      homes(Transformer::Homes(config.model(), place)),
      all(&world.all()),
      groups(world, mesh, device, GroupsOf(config, table)),
      tensor(&groups[Axis::kTensor]),
      data(&groups[Axis::kData]),
      pipeline(&groups[Axis::kPipeline]),
      tied(TiedGroup(config, mesh, world, device)),
      optimizer(NewOptimizer(config.training().optimizer())),
      store(table, mesh, homes, device,
            {.working = WorkingDType(config.training().precision()),
             .optimizer = optimizer->layout(),
             .split_optimizer = config.parallel().zero() == ParallelConfig::OPTIMIZER,
             .group_sums = std::countr_zero(static_cast<unsigned>(GroupsPerRank(config)))}),
      reducer(store, device, homes,
              {.groups = groups,
               .tokens = TokenAxes(config.parallel()),
               .tied = tied.get(),
               .micro_batches = MicroBatchesPerStep(config),
               // A planner's shortened step may have a number that they do not divide: its groups are not added up.
               .sum_groups = MicroBatchesPerStep(config) % GroupsPerRank(config) == 0 ? GroupsPerRank(config) : 1}),
      transformer(config.model(), store, ContextOf(config, *tensor, device, inspector), place,
                  [this](int home) { reducer.HomeAdded(home); }),
      actions(std::move(list)) {
  CHECK_EQ(MeshSizes(config.parallel()).ranks(), world.size());
}

int Worker::micro_batches() const { return MicroBatchesPerStep(config); }

}  // namespace trefoil
