// A slice of a global tensor: what a rank holds of it, said by global index. Parameters, optimizer state and checkpoints
// all speak of slices in this form, so that any layout can be turned into any other.
//
// Threads: plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/tensor.h"

namespace trefoil {

// The part [offset, offset + extent) of a global tensor, per dim.
struct Box {
  Shape offset, extent;
  bool operator==(const Box&) const = default;
};

// The box of the elements [begin, end) of `box` counted in row-major order of the box, cut into as few boxes as need be
// (at most 2 * dims - 1), in order: a partial row, whole rows, a partial row. Each is contiguous in the memory of `box`.
//
//   box 4 x 3 at (8, 0), elements [2, 10)  ->  1 x 1 at (8, 2), 2 x 3 at (9, 0), 1 x 1 at (11, 0)
std::vector<Box> Flatten(const Box& box, int64_t begin, int64_t end);

// A slice with its elements in host memory, row-major, contiguous. The memory is the caller's.
struct ShardedTensor {
  std::string name;  // of the global tensor: "blocks.3.attention.q.weight", "adam.m/blocks.3.attention.q.weight"
  DType dtype = DType::kFloat32;
  Shape global;
  Box box;
  std::byte* data = nullptr;

  int64_t bytes() const { return box.extent.elements() * static_cast<int64_t>(SizeOf(dtype)); }
};

}  // namespace trefoil
