// The groups of ranks along some of the mesh's axes together: for each set of axes that something is gathered or added
// over, the one that this rank is in. Called as their axes are: "tensor", "data", "context+data". Special axes
// (parallel/axes.h) of one rank are left out: without context parallelism that last one is "data".
//
//   const AxisGroups groups(world, mesh, device, {Axis::kTensor, Axis::kData});
//   groups[Axis::kData].AllReduceSum(x);
//
// Where shares are of a part of the data ranks only (parallel/placement.h, Sharing), also the groups in which these hold
// one copy together, and those that hold the same share of each copy:
//
//   groups.Shards(Axis::kData).ReduceScatterSum(gradients, shard);
//   if (Group* const copies = groups.Copies(Axis::kData)) copies->AllReduceSum(shard);
//
// Threads: those of a Group (parallel/collectives/group.h); groups of different sets are independent.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "parallel/collectives/world.h"
#include "parallel/mesh.h"
#include "parallel/placement.h"

namespace trefoil {

class AxisGroups {
 public:
  // Every rank of the job names the same sets in the same order; one named twice is made once. World and device outlive
  // it.
  AxisGroups(World& world, const Mesh& mesh, Device& device, const std::vector<AxisSet>& sets,
             RankSums sums = RankSums::kOrdered, int copies = 1);
  // CHECKs that it was named.
  Group& operator[](AxisSet axes) const;
  // Called "shards" and "replicas". All of the axes' group, and null, where there is one copy.
  Group& Shards(AxisSet axes) const;
  Group* Copies(AxisSet axes) const;

 private:
  AxisSet WithoutSpecial(AxisSet axes) const;

  const Mesh mesh_;
  std::map<AxisSet, std::unique_ptr<Group>> groups_, shards_, copies_;
};

}  // namespace trefoil
