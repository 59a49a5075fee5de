#include "parallel/mesh.h"

#include <glog/logging.h>

namespace trefoil {
namespace {

// Ranks between neighbours along each axis, tensor innermost.
int Stride(const int (&size)[3], int axis) {
  int stride = 1;
  for (int i = 0; i < axis; ++i) stride *= size[i];
  return stride;
}

}  // namespace

Mesh::Mesh(MeshSizes sizes, int rank) : rank_(rank), size_{sizes.tensor, sizes.data, sizes.pipeline} {
  for (int size : size_) CHECK_GE(size, 1);
  CHECK(0 <= rank && rank < sizes.ranks()) << "rank " << rank << " of a mesh of " << sizes.ranks();
  for (int axis = 0; axis < 3; ++axis) index_[axis] = rank / Stride(size_, axis) % size_[axis];
}

int Mesh::RankAt(Axis axis, int index) const {
  CHECK(0 <= index && index < size(axis)) << index << " of an axis of " << size(axis);
  return rank_ + (index - this->index(axis)) * Stride(size_, static_cast<int>(axis));
}

std::vector<int> Mesh::Group(std::initializer_list<Axis> axes) const {
  bool free[3] = {};
  for (Axis axis : axes) free[static_cast<int>(axis)] = true;
  int first = 0;
  for (int axis = 0; axis < 3; ++axis) first += free[axis] ? 0 : index_[axis] * Stride(size_, axis);
  // Outer axes vary slowest, so the ranks come out ascending.
  std::vector<int> ranks = {first};
  for (int axis = 2; axis >= 0; --axis) {
    if (!free[axis]) continue;
    std::vector<int> wider;
    for (int rank : ranks) {
      for (int i = 0; i < size_[axis]; ++i) wider.push_back(rank + i * Stride(size_, axis));
    }
    ranks = std::move(wider);
  }
  return ranks;
}

}  // namespace trefoil
