#include "parallel/axes.h"

#include <algorithm>

#include "runtime/config/nearest.h"

namespace trefoil {
namespace {

// Tensor ranks talk most, so they are neighbours and can share a host; then context, data, pipeline.
constexpr AxisEntry kTable[kAxes] = {
    {.axis = Axis::kTensor,
     .name = "tensor",
     .order = 0,
     .splits = AxisSplits::kMatrices,
     .size = &ParallelConfig::tensor,
     .set_size = &ParallelConfig::set_tensor,
     .takes_rest = false,
     .special = false},
    {.axis = Axis::kContext,
     .name = "context",
     .order = 1,
     .splits = AxisSplits::kTokens,
     .size = &ParallelConfig::context,
     .set_size = &ParallelConfig::set_context,
     .takes_rest = false,
     .special = true},
    {.axis = Axis::kPipeline,
     .name = "pipeline",
     .order = 3,
     .splits = AxisSplits::kPieces,
     .size = &ParallelConfig::pipeline,
     .set_size = &ParallelConfig::set_pipeline,
     .takes_rest = false,
     .special = false},
    {.axis = Axis::kData,
     .name = "data",
     .order = 2,
     .splits = AxisSplits::kSamples,
     .size = &ParallelConfig::data,
     .set_size = &ParallelConfig::set_data,
     .takes_rest = true,
     .special = false},
};

// Of the axes from number `axis` on.
void ForEach(size_t axis, int ranks, ParallelConfig* config, const std::function<void(const ParallelConfig&)>& visit,
             const std::function<bool(const AxisEntry&, int)>& allowed) {
  const AxisEntry& entry = kTable[axis];
  const bool last = axis + 1 == std::size(kTable);
  for (const int64_t divisor : Divisors(ranks)) {
    const int size = static_cast<int>(divisor);
    if ((last && size != ranks) || (allowed && !allowed(entry, size))) continue;
    (config->*entry.set_size)(size);
    last ? visit(*config) : ForEach(axis + 1, ranks / size, config, visit, allowed);
  }
}

}  // namespace

std::span<const AxisEntry> Axes() { return kTable; }

const AxisEntry& EntryOf(Axis axis) {
  return *std::find_if(std::begin(kTable), std::end(kTable),
                       [axis](const AxisEntry& entry) { return entry.axis == axis; });
}

std::string MeshText(const ParallelConfig& parallel) {
  std::string text;
  for (const AxisEntry& axis : Axes()) {
    const int size = (parallel.*axis.size)();
    if (axis.special && size == 1) continue;
    text += (text.empty() ? "" : " x ") + std::string(axis.name) + " " + std::to_string(size);
  }
  return text;
}

int64_t RanksOfMesh(const ParallelConfig& parallel) {
  constexpr int64_t kMost = int64_t{1} << 62;
  int64_t ranks = 1;
  for (const AxisEntry& axis : Axes()) {
    const int64_t size = (parallel.*axis.size)();
    ranks = size > 0 && ranks > kMost / size ? kMost : ranks * size;
  }
  return ranks;
}

void ForEachMesh(int ranks, const ParallelConfig& base, const std::function<void(const ParallelConfig&)>& visit,
                 const std::function<bool(const AxisEntry& axis, int size)>& allowed) {
  ParallelConfig config = base;
  ForEach(0, ranks, &config, visit, allowed);
}

AxisSet AxisSet::All() {
  AxisSet set;
  for (const AxisEntry& axis : Axes()) set = set | axis.axis;
  return set;
}

AxisSet AxisSet::Of(AxisSplits splits) {
  AxisSet set;
  for (const AxisEntry& axis : Axes()) {
    if (axis.splits == splits) set = set | axis.axis;
  }
  return set;
}

}  // namespace trefoil
