#include "training/optimizer.h"

#include "runtime/ops.h"

namespace trefoil {
namespace {

// Ranges of a bucket's shard whose parameters have the same weight decay, neighbours merged.
struct Range {
  int64_t begin = 0, end = 0;  // in the bucket
  bool decay = false;
};

std::vector<Range> DecayRanges(const BucketMemory& memory) {
  std::vector<Range> ranges;
  const int64_t shard_end = memory.shard_begin + memory.shard_elements();
  for (const Piece& piece : PiecesOf(memory.bucket, memory.shard_begin, shard_end)) {
    const int64_t end = piece.begin + piece.box.extent.elements();
    if (!ranges.empty() && ranges.back().decay == piece.parameter->decay) {
      ranges.back().end = end;  // padding between holds zeros and stays so
    } else {
      ranges.push_back({.begin = piece.begin, .end = end, .decay = piece.parameter->decay});
    }
  }
  return ranges;
}

}  // namespace

std::vector<Tensor> OwnedGradients(ParameterStore& store) {
  std::vector<Tensor> owned;
  for (BucketMemory& memory : store.buckets()) {
    const int64_t begin = memory.shard_begin;
    for (const Piece& piece : PiecesOf(memory.bucket, begin, begin + memory.shard_elements())) {
      if (!store.Owns(*piece.parameter)) continue;
      owned.push_back(memory.gradients.Range(piece.begin, {piece.box.extent.elements()}));
    }
  }
  return owned;
}

void UpdateParameters(ParameterStore& store, Device& device, GradientReducer& reducer, const OptimizerConfig& config,
                      double learning_rate, int64_t step, double gradient_norm) {
  const double clip = config.clip_norm();
  const AdamWStep adamw = {.learning_rate = static_cast<float>(learning_rate),
                           .beta1 = config.beta1(),
                           .beta2 = config.beta2(),
                           .epsilon = config.epsilon(),
                           .step = step,
                           .gradient_scale =
                               clip > 0 && gradient_norm > clip ? static_cast<float>(clip / gradient_norm) : 1};
  const bool separate_master = store.working_dtype() != DType::kFloat32;
  for (BucketMemory& memory : store.buckets()) {
    std::vector<AdamWPart> parts;
    for (const Range& range : DecayRanges(memory)) {
      const Shape shape = {range.end - range.begin};
      const int64_t at = range.begin - memory.shard_begin;
      parts.push_back({.weight = memory.master.Range(at, shape),
                       .gradient = memory.gradients.Range(range.begin, shape),
                       .m = memory.m.Range(at, shape),
                       .v = memory.v.Range(at, shape),
                       .working = separate_master ? memory.weights.Range(range.begin, shape) : Tensor(),
                       .weight_decay = range.decay ? config.weight_decay() : 0});
    }
    AdamW(device, parts, adamw);
    reducer.GatherWeights(memory);
    Fill(device, memory.gradients, 0);
  }
  reducer.FinishGathers();
}

}  // namespace trefoil
