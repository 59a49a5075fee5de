#include "parallel/tied_groups.h"

namespace trefoil {

TiedGroups::TiedGroups(World& world, const Mesh& mesh, Device& device, const ParameterTable& table,
                       const std::vector<int>& stage_of_module, RankSums sums)
    : stage_of_module_(stage_of_module) {
  std::set<Stages> sets;
  for (const Parameter& parameter : table.all()) {
    if (!parameter.tied_modules.empty()) sets.insert(StagesOf(parameter.module, parameter.tied_modules));
  }
  for (const Stages& stages : sets) {
    if (stages.size() == 1 || !stages.contains(mesh.index(Axis::kPipeline))) continue;
    std::vector<int> ranks;
    for (const int stage : stages) ranks.push_back(mesh.RankAt(Axis::kPipeline, stage));
    groups_[stages] = world.NewGroup("tied", ranks, device, sums);
  }
}

TiedGroups::Stages TiedGroups::StagesOf(int module, const std::vector<int>& tied_modules) const {
  Stages stages = {stage_of_module_.at(static_cast<size_t>(module))};
  for (const int tied : tied_modules) stages.insert(stage_of_module_.at(static_cast<size_t>(tied)));
  return stages;
}

Group* TiedGroups::Of(const Bucket& bucket) const {
  if (!bucket.tied()) return nullptr;
  const auto found = groups_.find(StagesOf(bucket.module, bucket.tied_modules));
  return found == groups_.end() ? nullptr : found->second.get();
}

std::vector<Group*> TiedGroups::all() const {
  std::vector<Group*> groups;
  for (const auto& [stages, group] : groups_) groups.push_back(group.get());
  return groups;
}

}  // namespace trefoil
