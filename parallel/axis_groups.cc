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
                       RankSums sums, int copies)
    : mesh_(mesh) {
  for (const AxisSet all : sets) {
    const AxisSet axes = WithoutSpecial(all);
    const auto [found, is_new] = groups_.try_emplace(axes);
    if (!is_new) continue;
    const std::vector<int> ranks = mesh.Group(axes);
    found->second = world.NewGroup(NameOf(axes), ranks, device, sums);
    const Sharing sharing = SharingOf(mesh, axes, copies);
    if (sharing.copies == 1) continue;
    std::vector<int> shards, same;
    for (int i = 0; i < static_cast<int>(ranks.size()); ++i) {
      if (i / sharing.shares == sharing.copy) shards.push_back(ranks[static_cast<size_t>(i)]);
      if (i % sharing.shares == sharing.share) same.push_back(ranks[static_cast<size_t>(i)]);
    }
    shards_[axes] = world.NewGroup("shards", shards, device, sums);
    copies_[axes] = world.NewGroup("replicas", same, device, sums);
  }
}

AxisSet AxisGroups::WithoutSpecial(AxisSet axes) const {
  for (const AxisEntry& entry : Axes()) {
    if (entry.special && mesh_.size(entry.axis) == 1) axes = axes - entry.axis;
  }
  return axes;
}

Group& AxisGroups::Shards(AxisSet axes) const {
  const auto found = shards_.find(WithoutSpecial(axes));
  return found == shards_.end() ? (*this)[axes] : *found->second;
}

Group* AxisGroups::Copies(AxisSet axes) const {
  const auto found = copies_.find(WithoutSpecial(axes));
  return found == copies_.end() ? nullptr : found->second.get();
}

Group& AxisGroups::operator[](AxisSet axes) const {
  const auto found = groups_.find(WithoutSpecial(axes));
  CHECK(found != groups_.end()) << "no group along " << NameOf(axes);
  return *found->second;
}

}  // namespace trefoil
