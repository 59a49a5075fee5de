#include "training/optimizer/adamw.h"

#include <vector>

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

void AdamWOptimizer::Update(Device& device, BucketMemory& memory, const OptimizerStep& step) const {
  const AdamWStep adamw = {.learning_rate = static_cast<float>(step.learning_rate),
                           .beta1 = config_.beta1(),
                           .beta2 = config_.beta2(),
                           .epsilon = config_.epsilon(),
                           .step = step.number,
                           .gradient_scale = step.gradient_scale};
  const bool separate_master = memory.weights.dtype() != DType::kFloat32;
  std::vector<AdamWPart> parts;
  for (const Range& range : DecayRanges(memory)) {
    const Shape shape = {range.end - range.begin};
    const int64_t at = range.begin - memory.shard_begin;
    parts.push_back({.weight = memory.master.Range(at, shape),
                     .gradient = memory.gradients.Range(range.begin, shape),
                     .m = memory.state[0].Range(at, shape),
                     .v = memory.state[1].Range(at, shape),
                     .working = separate_master ? memory.weights.Range(range.begin, shape) : Tensor(),
                     .weight_decay = range.decay ? config_.weight_decay() : 0});
  }
  AdamW(device, parts, adamw);
}

}  // namespace trefoil
