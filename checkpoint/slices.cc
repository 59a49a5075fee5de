#include "checkpoint/slices.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace trefoil {

std::string DataFileName(int rank) { return absl::StrFormat("rank-%05d.bin", rank); }
std::string PartFileName(int rank) { return absl::StrFormat("rank-%05d.json", rank); }

std::string ToString(const Box& box) { return box.offset.ToString() + "+" + box.extent.ToString(); }

int64_t ChunkBytes(int64_t slice_bytes) {
  constexpr int64_t kMiB = 1 << 20, kMostChunks = 64;
  return std::max<int64_t>(1, (slice_bytes + kMostChunks * kMiB - 1) / (kMostChunks * kMiB)) * kMiB;
}

ManifestTensor& TensorNamed(TensorsByName& tensors, const std::string& name, DType dtype, const Shape& shape) {
  const auto [it, fresh] = tensors.try_emplace(name, ManifestTensor{name, dtype, shape, {}});
  CHECK(it->second.dtype == dtype && it->second.shape == shape)
      << "tensor \"" << name << "\": declared as " << Name(it->second.dtype) << " " << it->second.shape << " and as "
      << Name(dtype) << " " << shape;
  return it->second;
}

std::vector<ManifestTensor> ValuesOf(TensorsByName tensors) {
  std::vector<ManifestTensor> values;
  for (auto& [name, tensor] : tensors) values.push_back(std::move(tensor));
  return values;
}

Box WholeOf(const Shape& shape) {
  Box box = {.offset = shape, .extent = shape};
  for (int i = 0; i < shape.rank(); ++i) box.offset[i] = 0;
  return box;
}

bool Intersect(const Box& a, const Box& b, Box* both) {
  *both = a;
  for (int i = 0; i < a.offset.rank(); ++i) {
    const int64_t begin = std::max(a.offset[i], b.offset[i]);
    const int64_t end = std::min(a.offset[i] + a.extent[i], b.offset[i] + b.extent[i]);
    if (begin >= end) return false;
    both->offset[i] = begin;
    both->extent[i] = end - begin;
  }
  return true;
}

std::string TilingError(const Box& region, std::span<const Box> boxes) {
  // Disjoint boxes whose elements add up to the region's tile it. Sorted by their first row, a box can only overlap
  // those that follow it and begin above its end, which are few for the cuts that layouts make.
  std::vector<const Box*> sorted;
  for (const Box& box : boxes) sorted.push_back(&box);
  const int dims = region.extent.rank();
  const auto begin = [&](const Box* box) { return dims == 0 ? 0 : box->offset[0]; };
  std::sort(sorted.begin(), sorted.end(), [&](const Box* a, const Box* b) { return begin(a) < begin(b); });
  int64_t elements = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    const int64_t end = dims == 0 ? 1 : sorted[i]->offset[0] + sorted[i]->extent[0];
    for (size_t j = i + 1; j < sorted.size() && begin(sorted[j]) < end; ++j) {
      Box both;
      if (!Intersect(*sorted[i], *sorted[j], &both)) continue;
      return "slices " + ToString(*sorted[i]) + " and " + ToString(*sorted[j]) + " overlap";
    }
    elements += sorted[i]->extent.elements();  // of disjoint boxes within the region: no more than it has
  }
  if (elements == region.extent.elements()) return "";
  return absl::StrCat("the slices leave a part of it to no rank: they hold ", elements, " of ",
                      region.extent.elements(), " elements");
}

std::string TilingError(const ManifestTensor& tensor) {
  std::vector<Box> boxes;
  for (const ManifestSlice& slice : tensor.slices) boxes.push_back(slice.box);
  return TilingError(WholeOf(tensor.shape), boxes);
}

}  // namespace trefoil
