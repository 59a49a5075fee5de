// The mesh: the job's ranks as a box with a side for each axis (parallel/axes.h), and which ranks lie along each axis.
//
//   Mesh mesh({{Axis::kTensor, 2}, {Axis::kData, 2}, {Axis::kPipeline, 2}}, /*rank=*/5);
//   mesh.index(Axis::kPipeline);                     // 1
//   mesh.Group(Axis::kTensor);                       // {4, 5}: the ranks that differ from rank 5 along tensor only
//   mesh.Group({Axis::kTensor, Axis::kData});        // {4, 5, 6, 7}
//
// A rank's number counts through the axes in the order of their entries, here
// rank = ((pipeline * data_size + data) * context_size + context) * tensor_size + tensor.
//
// Threads: immutable.
#pragma once

#include <array>
#include <initializer_list>
#include <utility>
#include <vector>

#include "parallel/axes.h"

namespace trefoil {

// A side of 1 for each axis not named.
class MeshSizes {
 public:
  MeshSizes() { of_.fill(1); }
  MeshSizes(std::initializer_list<std::pair<Axis, int>> sizes) : MeshSizes() {
    for (const auto& [axis, size] : sizes) of_[static_cast<size_t>(axis)] = size;
  }
  // Of a filled config.
  explicit MeshSizes(const ParallelConfig& parallel);

  int operator[](Axis axis) const { return of_[static_cast<size_t>(axis)]; }
  int ranks() const;

 private:
  std::array<int, kAxes> of_;
};

class Mesh {
 public:
  // 0 <= rank < sizes.ranks().
  Mesh(const MeshSizes& sizes, int rank);

  int rank() const { return rank_; }
  // Ranks along the axes together, and the place of this one among them: in Group(axes), ascending.
  int size(AxisSet axes) const;
  int index(AxisSet axes) const;
  // The rank at the coordinates of this one but `index` along `axis`.
  int RankAt(Axis axis, int index) const;
  // The ranks that agree with this one on every axis not in `axes`, ascending; contains this rank.
  std::vector<int> Group(AxisSet axes) const;

 private:
  const MeshSizes sizes_;
  const int rank_;
};

}  // namespace trefoil
