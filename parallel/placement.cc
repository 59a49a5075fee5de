#include "parallel/placement.h"

#include <algorithm>

namespace trefoil {
namespace {

constexpr int64_t kAlignment = 32;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Elements of the largest slice over the tensor axis: every tensor rank leaves that much room, so that a bucket has one
// layout on all of them even where a dim does not divide evenly.
int64_t Room(const Parameter& parameter, int tensor_size) {
  if (parameter.split_dim < 0) return parameter.shape.elements();
  const int64_t n = parameter.shape[parameter.split_dim];
  return n == 0 ? 0 : parameter.shape.elements() / n * ((n + tensor_size - 1) / tensor_size);
}

bool Contains(const std::vector<int>& homes, int home) {
  return std::find(homes.begin(), homes.end(), home) != homes.end();
}

}  // namespace

Box TensorSlice(const Parameter& parameter, int size, int index) {
  Box box;
  for (int i = 0; i < parameter.shape.rank(); ++i) {
    const int64_t n = parameter.shape[i];
    const bool split = i == parameter.split_dim;
    const int64_t begin = split ? SplitBegin(n, size, index) : 0;
    const int64_t end = split ? SplitBegin(n, size, index + 1) : n;
    box.offset.push_back(begin);
    box.extent.push_back(end - begin);
  }
  return box;
}

std::vector<Bucket> PlaceParameters(const ParameterTable& table, const Mesh& mesh, const std::vector<int>& homes) {
  std::vector<Bucket> buckets;
  for (const Parameter& parameter : table.all()) {
    if (!Contains(homes, parameter.home) && !(parameter.tied_home >= 0 && Contains(homes, parameter.tied_home))) {
      continue;
    }
    auto bucket = std::find_if(buckets.begin(), buckets.end(), [&](const Bucket& b) {
      return b.home == parameter.home && b.tied_home == parameter.tied_home;
    });
    if (bucket == buckets.end()) {
      buckets.push_back({.home = parameter.home, .tied_home = parameter.tied_home, .entries = {}, .elements = 0});
      bucket = buckets.end() - 1;
    }
    const int64_t begin =
        parameter.fused_with_previous ? bucket->elements : RoundUp(bucket->elements, kAlignment);
    const Box box = TensorSlice(parameter, mesh.size(Axis::kTensor), mesh.index(Axis::kTensor));
    bucket->entries.push_back({.parameter = &parameter, .box = box, .begin = begin});
    bucket->elements = begin + Room(parameter, mesh.size(Axis::kTensor));
  }
  for (Bucket& bucket : buckets) bucket.elements = RoundUp(bucket.elements, kAlignment * mesh.size(Axis::kData));
  std::sort(buckets.begin(), buckets.end(), [](const Bucket& a, const Bucket& b) {
    return std::pair(a.home, a.tied_home) < std::pair(b.home, b.tied_home);
  });
  return buckets;
}

std::vector<Piece> PiecesOf(const Bucket& bucket, int64_t begin, int64_t end) {
  std::vector<Piece> pieces;
  for (const BucketEntry& entry : bucket.entries) {
    const int64_t from = std::max(begin, entry.begin), to = std::min(end, entry.end());
    if (from >= to) continue;
    int64_t at = from;
    for (const Box& box : Flatten(entry.box, from - entry.begin, to - entry.begin)) {
      pieces.push_back({.parameter = entry.parameter, .box = box, .begin = at});
      at += box.extent.elements();
    }
  }
  return pieces;
}

}  // namespace trefoil
