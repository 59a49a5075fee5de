#include "checkpoint/bands.h"

#include <algorithm>

namespace trefoil {
namespace {

constexpr int64_t kSlicesOfBand = 16;

int64_t DivideUp(int64_t a, int64_t b) { return a / b + (a % b == 0 ? 0 : 1); }

}  // namespace

SliceCount CountOf(const std::vector<ManifestSlice>& slices) {
  SliceCount count = {.slices = static_cast<int64_t>(slices.size())};
  for (const ManifestSlice& slice : slices) count.rows += slice.box.extent.rank() == 0 ? 1 : slice.box.extent[0];
  return count;
}

int64_t BandsFor(const Shape& shape, const SliceCount& count) {
  if (shape.rank() == 0 || count.slices <= kSlicesOfBand) return 1;
  const int64_t of_sixteen = DivideUp(shape[0], DivideUp(count.slices, kSlicesOfBand));
  const int64_t height = std::max(of_sixteen, DivideUp(count.rows, count.slices));
  return DivideUp(shape[0], std::min(height, shape[0]));
}

Bands::Bands(const Shape& shape, int64_t bands) : shape_(shape), dims_(shape.rank()) {
  if (dims_ == 0) return;
  height_ = DivideUp(shape[0], bands);
  count_ = DivideUp(shape[0], height_);
}

Box Bands::Region(int64_t band) const {
  Box region = WholeOf(shape_);
  if (dims_ == 0) return region;
  region.offset[0] = band * height_;
  region.extent[0] = std::min(height_, shape_[0] - band * height_);
  return region;
}

}  // namespace trefoil
