#include "training/optimizer/optimizer.h"

#include "runtime/ops.h"
#include "training/optimizer/adamw.h"

namespace trefoil {

namespace {

// The gradients that lie there from one step to the next.
const Tensor& Kept(const BucketMemory& memory) {
  return memory.split_gradients ? memory.gradient_shard : memory.gradients;
}

}  // namespace

std::unique_ptr<Optimizer> NewOptimizer(const OptimizerConfig& config) {
  return std::make_unique<AdamWOptimizer>(config);
}

std::vector<Tensor> OwnedGradients(ParameterStore& store) {
  std::vector<Tensor> owned;
  for (BucketMemory& memory : store.buckets()) {
    if (!memory.bucket.trained) continue;
    const int64_t begin = memory.shard_begin;
    for (const Piece& piece : PiecesOf(memory.bucket, begin, begin + memory.shard_elements())) {
      if (!store.Owns(*piece.parameter)) continue;
      owned.push_back(memory.gradient_shard.Range(piece.begin - begin, {piece.box.extent.elements()}));
    }
  }
  return owned;
}

void ClearGradients(ParameterStore& store, Device& device) {
  for (BucketMemory& memory : store.buckets()) {
    if (memory.bucket.trained) Fill(device, Kept(memory), 0);
  }
}

float ClippingScale(const OptimizerConfig& config, double gradient_norm) {
  const double clip = config.clip_norm();
  return clip > 0 && gradient_norm > clip ? static_cast<float>(clip / gradient_norm) : 1;
}

void UpdateParameters(ParameterStore& store, Device& device, GradientReducer& reducer, const Optimizer& optimizer,
                      const OptimizerStep& step) {
  for (BucketMemory& memory : store.buckets()) {
    if (!memory.bucket.trained) continue;
    optimizer.Update(device, memory, step);
    reducer.GatherWeights(memory);
    Fill(device, Kept(memory), 0);
  }
  reducer.FinishGathers();
}

}  // namespace trefoil
