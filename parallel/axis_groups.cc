#include "parallel/axis_groups.h"

#include <glog/logging.h>

namespace trefoil {
namespace {

std::string NameOf(AxisSet axes) {
  std::string name;
  for (const AxisEntry& entry : Axes()) {
    if (axes.contains(entry.axis)) name += (name.empty() ? "" : "+") + std::string(entry.name);
  }
  return name.empty() ? "self" : name;
}

}  // namespace

AxisGroups::AxisGroups(World& world, const Mesh& mesh, Device& device, const std::vector<AxisSet>& sets,
                       RankSums sums) {
  for (const AxisSet axes : sets) {
    const auto [found, is_new] = groups_.try_emplace(axes);
    if (is_new) found->second = world.NewGroup(NameOf(axes), mesh.Group(axes), device, sums);
  }
}

Group& AxisGroups::operator[](AxisSet axes) const {
  const auto found = groups_.find(axes);
  CHECK(found != groups_.end()) << "no group along " << NameOf(axes);
  return *found->second;
}

}  // namespace trefoil
