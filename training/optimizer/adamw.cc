#include "training/optimizer/adamw.h"

#include <map>
#include <vector>

#include "runtime/ops.h"

namespace trefoil {
namespace {

// Ranges of a bucket's shard whose parameters have the same weight decay and learning rate, neighbours merged.
struct Range {
  int64_t begin = 0, end = 0;  // in the bucket
  bool decay = false;
  double rate = 1;
};

std::vector<Range> RangesOf(const BucketMemory& memory) {
  std::vector<Range> ranges;
  const int64_t shard_end = memory.shard_begin + memory.shard_elements();
  for (const Piece& piece : PiecesOf(memory.bucket, memory.shard_begin, shard_end)) {
    const Parameter& parameter = *piece.parameter;
    const int64_t end = piece.begin + piece.box.extent.elements();
    if (!ranges.empty() && ranges.back().decay == parameter.decay && ranges.back().rate == parameter.rate) {
      ranges.back().end = end;  // padding between holds zeros and stays so
    } else {
      ranges.push_back({.begin = piece.begin, .end = end, .decay = parameter.decay, .rate = parameter.rate});
    }
  }
  return ranges;
}

}  // namespace

void AdamWOptimizer::Update(Device& device, BucketMemory& memory, const OptimizerStep& step) const {
  const bool separate_master = memory.weight_shard.dtype() != DType::kFloat32;
  std::map<double, std::vector<AdamWPart>> parts;  // by their share of the learning rate: mostly one for all
  for (const Range& range : RangesOf(memory)) {
    const Shape shape = {range.end - range.begin};
    const int64_t at = range.begin - memory.shard_begin;
    parts[range.rate].push_back({.weight = memory.master.Range(at, shape),
                                 .gradient = memory.gradient_shard.Range(at, shape),
                                 .m = memory.state[0].Range(at, shape),
                                 .v = memory.state[1].Range(at, shape),
                                 .working = separate_master ? memory.weight_shard.Range(at, shape) : Tensor(),
                                 .weight_decay = range.decay ? config_.weight_decay() : 0});
  }
  for (const auto& [rate, of_rate] : parts) {
    AdamW(device, of_rate,
          {.learning_rate = static_cast<float>(step.learning_rate * rate),
           .beta1 = config_.beta1(),
           .beta2 = config_.beta2(),
           .epsilon = config_.epsilon(),
           .step = step.number,
           .gradient_scale = step.gradient_scale});
  }
}

}  // namespace trefoil
