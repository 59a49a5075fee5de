// Where a rank keeps its parameters: which slice of each, and where in which flat buffer. Pure arithmetic on the
// ParameterTable and the mesh; the only slice arithmetic in the program.
//
// A bucket is one flat buffer with parameters of one module that are replicated over the same axes and that the
// optimizer treats alike (parameters that several modules share, and those that are not trained, are apart), in order
// of declaration. Gradients are reduced, optimizer state is split and weights are gathered again a bucket at a time,
// over its `replicas` axes: those that split samples or tokens and not the parameters. With ZeRO, of d ranks along them
// rank i owns elements [i n / d, (i + 1) n / d) of a bucket of n elements; n is padded so that this divides evenly. Or
// d ranks in a row share out each of several copies (Sharing), so that a copy's ranks may lie on one host. Where the
// optimizer needs whole parameters (parallel/optimizer_layout.h), they are laid out rank by rank so that no share's
// border cuts one. The padding holds zeros for ever. All ranks of the other axes lay a bucket out alike.
//
// Threads: pure functions and plain values.
#pragma once

#include <algorithm>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/optimizer_layout.h"
#include "parallel/parameter.h"
#include "parallel/sharded_tensor.h"

namespace trefoil {

// The first of the elements that part `index` of `parts` holds of `n`: parts differ by one element at most.
inline int64_t SplitBegin(int64_t n, int parts, int index) { return n * index / parts; }

// What the rank at `mesh` holds of a parameter of its stage.
Box SliceOf(const Parameter& parameter, const Mesh& mesh);

// How the ranks along a bucket's replicas share it out: `copies` times `shares` ranks, those of a copy in a row.
struct Sharing {
  int copies = 1, shares = 1;
  int copy = 0, share = 0;  // this rank's
};
// `copies`: of what is shared out over the data ranks (parallel.replicas), which it divides.
Sharing SharingOf(const Mesh& mesh, AxisSet replicas, int copies);

struct BucketEntry {
  const Parameter* parameter = nullptr;  // in the table, which outlives the bucket
  Box box;                               // this rank's slice
  int64_t begin = 0;                     // first element in the bucket
  int64_t end() const { return begin + box.extent.elements(); }
};

struct Bucket {
  int module = 0;
  std::vector<int> tied_modules = {};  // of its parameters (parallel/parameter.h)
  AxisSet replicas = {};             // its parameters' replicated_over()
  size_t optimizer_group = 0;
  bool trained = true;               // all of its parameters, or none
  std::vector<BucketEntry> entries;  // ascending
  int64_t elements = 0;              // with padding; a multiple of the ranks along `replicas`

  bool tied() const { return !tied_modules.empty(); }
  bool UsedBy(int number) const {
    return module == number || std::find(tied_modules.begin(), tied_modules.end(), number) != tied_modules.end();
  }
};

// The buckets of the rank at `mesh` that holds `modules`, in order of module. Entries that are not fused start on a
// multiple of 32 elements (64 bytes in bf16). split_optimizer: each rank along a bucket's replicas owns a share of it,
// of one of `copies`.
std::vector<Bucket> PlaceParameters(const ParameterTable& table, const Mesh& mesh, const std::vector<int>& modules,
                                    const OptimizerLayout& optimizer, bool split_optimizer, int copies = 1);

// One contiguous piece of a global parameter within elements [begin, end) of a bucket.
struct Piece {
  const Parameter* parameter = nullptr;
  Box box;
  int64_t begin = 0;  // in the bucket
};
// The pieces within [begin, end), ascending; padding is in none.
std::vector<Piece> PiecesOf(const Bucket& bucket, int64_t begin, int64_t end);

}  // namespace trefoil
