// Where every slice is, shared out over the ranks of a group: each looks after some bands (checkpoint/bands.h) of some
// tensors, and is told of the slices that lie in them by whoever knows them. So no rank holds the list of all slices, and
// each sends and gets about as much as its own slices, or those that it looks for, are.
//
//   const SliceDirectory directory(group, manifest.tensors, slices_of_my_part);
//   TREFOIL_RETURN_IF_ERROR(group.Agree(directory.Tiling()));
//   const std::vector<ManifestTensor> found = directory.Find(targets);
//
// Bands go round the ranks, so that all look after as many, up to one. Messages: those of a Group::ExchangeStrings to
// make it, of two to look things up.
//
// Threads: the group's; every rank makes the same calls. Internal to checkpoint/.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "checkpoint/bands.h"
#include "checkpoint/manifest.h"
#include "parallel/collectives/group.h"

namespace trefoil {

class SliceDirectory {
 public:
  // `tensors`: of all ranks, the same on each, outlive the directory. `known`: the slices that this rank tells of; each
  // is told of by one rank.
  SliceDirectory(Group& group, const std::vector<TensorEntry>& tensors, const std::vector<ManifestTensor>& known);

  // DataLoss if the slices of a band of this rank are not disjoint or leave a part of it out.
  absl::Status Tiling() const;
  // All slices that have something of this rank's targets, whose tensors must be among those of the directory. Sorted by
  // name.
  std::vector<ManifestTensor> Find(std::span<const ShardedTensor> targets) const;

 private:
  using Key = std::pair<int64_t, int64_t>;  // number of the tensor, of its band
  Bands BandsOf(int64_t tensor) const;
  int KeeperOf(const Key& key) const;

  Group& group_;
  const std::vector<TensorEntry>& tensors_;
  std::vector<int64_t> first_band_;  // of each tensor, counted over all of them; behind them the number of all
  std::map<Key, std::vector<ManifestSlice>> kept_;
};

}  // namespace trefoil
