// Where a rank keeps its parameters: which slice of each, and where in which flat buffer. Pure arithmetic on the
// ParameterTable and the mesh; the only slice arithmetic in the program.
//
// A bucket is one flat buffer with the parameters of one home (a tied parameter has a bucket of its own), in order of
// declaration. Gradients are reduced, optimizer state is split over the data axis, and weights are gathered again a
// bucket at a time. With ZeRO, data rank i owns elements [i n / d, (i + 1) n / d) of each bucket of n elements; n is
// padded so that this divides evenly. The padding holds zeros for ever. All tensor ranks lay a bucket out alike.
//
// Threads: pure functions and plain values.
#pragma once

#include <vector>

#include "parallel/mesh.h"
#include "parallel/parameter.h"
#include "parallel/sharded_tensor.h"

namespace trefoil {

// The first of the elements that part `index` of `parts` holds of `n`: parts differ by one element at most.
inline int64_t SplitBegin(int64_t n, int parts, int index) { return n * index / parts; }

// What tensor rank `index` of `size` holds of a parameter.
Box TensorSlice(const Parameter& parameter, int size, int index);

struct BucketEntry {
  const Parameter* parameter = nullptr;  // in the table, which outlives the bucket
  Box box;                               // this rank's slice
  int64_t begin = 0;                     // first element in the bucket
  int64_t end() const { return begin + box.extent.elements(); }
};

struct Bucket {
  int home = 0;
  int tied_home = -1;
  std::vector<BucketEntry> entries;  // ascending
  int64_t elements = 0;              // with padding; a multiple of the data axis
};

// The buckets of the rank at `mesh` that holds `homes`, in order of home. Entries that are not fused start on a
// multiple of 32 elements (64 bytes in bf16).
std::vector<Bucket> PlaceParameters(const ParameterTable& table, const Mesh& mesh, const std::vector<int>& homes);

// One contiguous piece of a global parameter within elements [begin, end) of a bucket.
struct Piece {
  const Parameter* parameter = nullptr;
  Box box;
  int64_t begin = 0;  // in the bucket
};
// The pieces within [begin, end), ascending; padding is in none.
std::vector<Piece> PiecesOf(const Bucket& bucket, int64_t begin, int64_t end);

}  // namespace trefoil
