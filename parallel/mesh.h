// The mesh: the job's ranks as a box of tensor x data x pipeline, and which ranks lie along each axis.
//
//   Mesh mesh({.tensor = 2, .data = 2, .pipeline = 2}, /*rank=*/5);
//   mesh.index(Axis::kPipeline);                     // 1
//   mesh.Group({Axis::kTensor});                     // {4, 5}: the ranks that differ from rank 5 along tensor only
//   mesh.Group({Axis::kTensor, Axis::kData});        // {4, 5, 6, 7}
//
// Neighbours along tensor are neighbouring ranks (they talk most, so they should share a node), then data, then
// pipeline: rank = (pipeline * data_size + data) * tensor_size + tensor.
//
// Threads: immutable.
#pragma once

#include <initializer_list>
#include <vector>

namespace trefoil {

enum class Axis { kTensor = 0, kData = 1, kPipeline = 2 };

struct MeshSizes {
  int tensor = 1, data = 1, pipeline = 1;
  int ranks() const { return tensor * data * pipeline; }
};

class Mesh {
 public:
  // 0 <= rank < sizes.ranks().
  Mesh(MeshSizes sizes, int rank);

  int rank() const { return rank_; }
  int size(Axis axis) const { return size_[static_cast<int>(axis)]; }
  int index(Axis axis) const { return index_[static_cast<int>(axis)]; }
  // The rank at the coordinates of this one but `index` along `axis`.
  int RankAt(Axis axis, int index) const;
  // The ranks that agree with this one on every axis not in `axes`, ascending; contains this rank.
  std::vector<int> Group(std::initializer_list<Axis> axes) const;

 private:
  int rank_;
  int size_[3];
  int index_[3];
};

}  // namespace trefoil
