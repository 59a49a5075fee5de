#include "training/worker.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "training/actions.h"
#include "training/config/micro_batches.h"
#include "training/fine_tuning.h"

namespace trefoil {
namespace {

// Of each module of the model.
std::vector<int> StagesOfModules(const RunConfig& config, const VirtualStages& virtual_stages) {
  std::vector<int> stages;
  const auto modules = ModulesOfVirtualStages(config.model(), virtual_stages);
  for (size_t v = 0; v < modules.size(); ++v) {
    stages.insert(stages.end(), modules[v].size(), virtual_stages.StageOf(static_cast<int>(v)));
  }
  return stages;
}

// Groups of micro-batches whose gradients each rank adds up by itself: a power of two.
int GroupsPerRank(const RunConfig& config) {
  return std::max(1, config.training().gradient_groups() / config.parallel().data());
}

// Whether the layout splits what this stage of ZeRO does.
bool Splits(const ParallelConfig& parallel, ParallelConfig::Zero stage) { return parallel.zero() >= stage; }

// Of what is split over the data ranks.
int CopiesOf(const ParallelConfig& parallel) {
  return Splits(parallel, ParallelConfig::OPTIMIZER) ? std::max(1, parallel.replicas()) : 1;
}

bool HasReplicas(const ParameterStore& store, const AxisGroups& groups) {
  return std::any_of(store.buckets().begin(), store.buckets().end(), [&](const BucketMemory& memory) {
    return groups[memory.bucket.replicas].size() > 1 && (memory.bucket.trained || memory.split_weights);
  });
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

Context ContextOf(const RunConfig& config, const ParameterTable& table, Group& tensor, Group& token_ranks,
                  Device& device, const Inspector& inspector) {
  return {.device = device,
          .tensor = tensor,
          .sequence_parallel = config.parallel().sequence_parallel(),
          .token_ranks = &token_ranks,
          .context_method = config.parallel().context_method(),
          .dtype = WorkingDType(config.training().precision()),
          .recompute = config.parallel().recompute(),
          .dropout_seed = config.training().seed(),
          .float8 = config.training().precision() == TrainingConfig::FP8,
          .inspector = &inspector,
          .first_trained_module = table.first_trained_module()};
}

}  // namespace

Role RoleIn(const RunConfig& config, const std::vector<int>& modules) {
  return RoleOf(config.model(), modules) | Role{.reads_lengths = config.data().mask_documents()};
}

bool ReadsData(const RunConfig& config, int rank) {
  const int stage = Mesh(MeshSizes(config.parallel()), rank).index(Axis::kPipeline);
  const StagePlace place = {.stage = stage, .virtual_stages = VirtualStages(config.parallel())};
  return RoleIn(config, Transformer::Modules(config.model(), place)).reads();
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
      table(DeclareRun(config)),
      modules(Transformer::Modules(config.model(), place)),
      role(RoleIn(config, modules)),
      all(&world.all()),
      groups(world, mesh, device, GroupsOf(config, table), SumsOf(config.runtime()), CopiesOf(config.parallel())),
      tensor(&groups[Axis::kTensor]),
      context(&groups[Axis::kContext]),
      data(&groups[Axis::kData]),
      pipeline(&groups[Axis::kPipeline]),
      tied(world, mesh, device, table, StagesOfModules(config, place.virtual_stages), SumsOf(config.runtime())),
      optimizer(NewOptimizer(config.training().optimizer())),
      store(table, mesh, modules, device,
            {.working = WorkingDType(config.training().precision()),
             .optimizer = optimizer->layout(),
             .split_optimizer = Splits(config.parallel(), ParallelConfig::OPTIMIZER),
             .split_gradients = Splits(config.parallel(), ParallelConfig::GRADIENTS),
             .split_weights = Splits(config.parallel(), ParallelConfig::WEIGHTS),
             .copies = CopiesOf(config.parallel()),
             .group_sums = std::countr_zero(static_cast<unsigned>(GroupsPerRank(config)))}),
      queue(device, all->membership().patience, device.computes() && HasReplicas(store, groups)),
      reducer(store, device, queue, modules,
              {.groups = groups,
               .tokens = TokenAxes(config.parallel()),
               .tied = tied,
               .micro_batches = MicroBatchesPerStep(config),
               // A planner's shortened step may have a number that they do not divide: its groups are not added up.
               .sum_groups = MicroBatchesPerStep(config) % GroupsPerRank(config) == 0 ? GroupsPerRank(config) : 1}),
      gatherer(store, device, groups, queue),
      transformer(config.model(), store, ContextOf(config, table, *tensor, *context, device, inspector), place,
                  [this](int module) { reducer.ModuleAdded(module); }),
      actions(std::move(list)) {
  CHECK_EQ(MeshSizes(config.parallel()).ranks(), world.size());
}

int Worker::micro_batches() const { return MicroBatchesPerStep(config); }

}  // namespace trefoil
