#include "training/memory_plan.h"

#include "training/step.h"

namespace trefoil {

MemoryPlan PlanMemory(const RunConfig& config, int ranks) {
  MemoryPlan worst;
  const ParallelConfig& parallel = config.parallel();
  const Mesh mesh({.tensor = parallel.tensor(), .data = parallel.data(), .pipeline = parallel.pipeline()}, 0);
  // Ranks of one stage need the same, but for a row of the vocabulary.
  for (int stage = 0; stage < parallel.pipeline(); ++stage) {
    const int rank = mesh.RankAt(Axis::kPipeline, stage);
    const std::unique_ptr<Device> device = NewNullDevice();
    const std::unique_ptr<World> world = NewNullWorld(ranks, rank);
    Worker worker(config, *world, *device);
    worker.store.Initialize(config.training().seed(), *worker.data);
    // The second step has the buffers of sums from its beginning.
    for (int step = 1; step <= 2; ++step) {
      CHECK(TrainStep(worker, ZerosSource(config.model().sequence_length()), step, 0, 0).ok());
    }
    const MemoryUse use = device->memory();
    if (stage == 0 || use.peak_total > worst.use.peak_total) worst = {.rank = rank, .use = use};
  }
  return worst;
}

}  // namespace trefoil
