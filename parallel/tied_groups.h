// The groups of pipeline stages that hold the same tied parameters (parallel/parameter.h): for each set of stages one, of
// the ranks that differ in the stage only.
//
//   const TiedGroups tied(world, mesh, device, table, stage_of_module);
//   if (Group* stages = tied.Of(bucket)) stages->AllReduceSum(bucket_gradient);
//
// Threads: those of a Group (parallel/collectives/group.h). Stages call their groups in the order of the buckets, which
// is one on all of them.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "parallel/collectives/world.h"
#include "parallel/mesh.h"
#include "parallel/placement.h"

namespace trefoil {

class TiedGroups {
 public:
  // Every rank of the job calls it with the same table and stage_of_module, the stage of each module of the model. World
  // and device outlive it.
  TiedGroups(World& world, const Mesh& mesh, Device& device, const ParameterTable& table,
             const std::vector<int>& stage_of_module, RankSums sums = RankSums::kOrdered);
  // Null where no other stage holds the bucket.
  Group* Of(const Bucket& bucket) const;
  // Each group that this rank is in, in the same order on all stages.
  std::vector<Group*> all() const;

 private:
  using Stages = std::set<int>;
  Stages StagesOf(int module, const std::vector<int>& tied_modules) const;

  const std::vector<int> stage_of_module_;
  std::map<Stages, std::unique_ptr<Group>> groups_;
};

}  // namespace trefoil
