#include "training/worker.h"

namespace trefoil {
namespace {

MeshSizes SizesOf(const ParallelConfig& parallel) {
  return {.tensor = parallel.tensor(), .data = parallel.data(), .pipeline = parallel.pipeline()};
}

int MicroBatches(const RunConfig& config) {
  return config.training().global_batch() / (config.training().micro_batch() * config.parallel().data());
}

std::unique_ptr<Group> TiedGroup(const RunConfig& config, const Mesh& mesh, World& world, Device& device) {
  const int stages = mesh.size(Axis::kPipeline), stage = mesh.index(Axis::kPipeline);
  if (!RecipeOf(config.model()).tied || stages == 1 || (stage != 0 && stage != stages - 1)) return nullptr;
  return world.NewGroup("tied", {mesh.RankAt(Axis::kPipeline, 0), mesh.RankAt(Axis::kPipeline, stages - 1)}, device);
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
  return BuildSchedule(parallel.schedule(), parallel.pipeline(), parallel.chunks(), MicroBatches(config),
                       Mesh(SizesOf(parallel), rank).index(Axis::kPipeline));
}

bool ReadsTokens(const RunConfig& config, int rank) {
  const Mesh mesh(SizesOf(config.parallel()), rank);
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
    : Worker(run, world, device, ActionsOf(run, world.rank())) {}

Worker::Worker(const RunConfig& run, World& world, Device& device, std::vector<Action> list)
    : config(run),
      device(device),
      mesh(SizesOf(config.parallel()), world.rank()),
      place{.stage = mesh.index(Axis::kPipeline),
            .stages = mesh.size(Axis::kPipeline),
            .chunks = config.parallel().chunks()},
      table(DeclareModel(config.model())),
      homes(Transformer::Homes(config.model(), place)),
      all(&world.all()),
      tensor(world.NewGroup("tensor", mesh.Group({Axis::kTensor}), device)),
      data(world.NewGroup("data", mesh.Group({Axis::kData}), device)),
      pipeline(world.NewGroup("pipeline", mesh.Group({Axis::kPipeline}), device)),
      tied(TiedGroup(config, mesh, world, device)),
      store(table, mesh, homes, device, WorkingDType(config.training().precision()),
            config.parallel().zero() == ParallelConfig::OPTIMIZER),
      reducer(store, device, homes,
              {.data = *data,
               .tensor = *tensor,
               .tied = tied.get(),
               .sequence_parallel = config.parallel().sequence_parallel()}),
      transformer(config.model(), store, ContextOf(config, *tensor, device, inspector), place,
                  [this](int home) { reducer.HomeDone(home); }),
      actions(std::move(list)) {
  CHECK_EQ(mesh.size(Axis::kTensor) * mesh.size(Axis::kData) * mesh.size(Axis::kPipeline), world.size());
}

int Worker::micro_batches() const { return MicroBatches(config); }

}  // namespace trefoil
