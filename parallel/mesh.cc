#include "parallel/mesh.h"

#include <glog/logging.h>

#include <algorithm>
#include <span>

namespace trefoil {
namespace {

// In the order of the rank's number, innermost first.
std::array<Axis, kAxes> Inward() {
  std::array<Axis, kAxes> axes;
  for (const AxisEntry& entry : Axes()) axes[static_cast<size_t>(entry.order)] = entry.axis;
  return axes;
}

// Ranks between neighbours along an axis.
int Stride(const MeshSizes& sizes, Axis axis) {
  int stride = 1;
  for (const AxisEntry& entry : Axes()) {
    if (entry.order < EntryOf(axis).order) stride *= sizes[entry.axis];
  }
  return stride;
}

int IndexOf(const MeshSizes& sizes, int rank, Axis axis) { return rank / Stride(sizes, axis) % sizes[axis]; }

}  // namespace

MeshSizes::MeshSizes(const ParallelConfig& parallel) : MeshSizes() {
  for (const AxisEntry& entry : Axes()) of_[static_cast<size_t>(entry.axis)] = (parallel.*entry.size)();
}

int MeshSizes::ranks() const {
  int ranks = 1;
  for (const int size : of_) ranks *= size;
  return ranks;
}

Mesh::Mesh(const MeshSizes& sizes, int rank) : sizes_(sizes), rank_(rank) {
  for (const AxisEntry& entry : Axes()) CHECK_GE(sizes[entry.axis], 1) << entry.name;
  CHECK(0 <= rank && rank < sizes.ranks()) << "rank " << rank << " of a mesh of " << sizes.ranks();
}

int Mesh::size(AxisSet axes) const {
  int size = 1;
  for (const Axis axis : Inward()) size *= axes.contains(axis) ? sizes_[axis] : 1;
  return size;
}

int Mesh::index(AxisSet axes) const {
  int index = 0, stride = 1;
  for (const Axis axis : Inward()) {
    if (!axes.contains(axis)) continue;
    index += IndexOf(sizes_, rank_, axis) * stride;
    stride *= sizes_[axis];
  }
  return index;
}

int Mesh::RankAt(Axis axis, int index) const {
  CHECK(0 <= index && index < size(axis)) << index << " of an axis of " << size(axis);
  return rank_ + (index - this->index(axis)) * Stride(sizes_, axis);
}

std::vector<int> Mesh::Group(AxisSet axes) const {
  std::vector<int> ranks = {rank_};
  for (const Axis axis : Inward()) {
    if (!axes.contains(axis)) continue;
    const int stride = Stride(sizes_, axis);
    std::vector<int> wider;
    // Inner axes come first and vary fastest, so the ranks come out ascending.
    for (int i = 0; i < sizes_[axis]; ++i) {
      for (const int rank : ranks) wider.push_back(rank + (i - index(axis)) * stride);
    }
    ranks = std::move(wider);
  }
  return ranks;
}

}  // namespace trefoil
