// One rank's half of a save, which needs no other rank: its elements to its file, and beside it the part of the manifest
// that says what lies where in it.
//
//   TREFOIL_ASSIGN_OR_RETURN(const RankPart part, WriteRankPart(fs, partial, rank, parts, slices_of));
//
// The other half, in which the ranks agree and the checkpoint is committed, is checkpoint/writer.h's.
//
// Threads: any one.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/sharded_tensor.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct WrittenPart;

// What a rank has written: the slices and where they lie.
using RankPart = std::shared_ptr<const WrittenPart>;

// Writes and flushes rank `rank`'s two files in `folder`: part(0) ... part(parts - 1), asked for in order, each written
// before the next is asked for. Slices of no elements are left out; a rank that has nothing else has no files. On return
// with OK their content is on disk, their names in the folder not yet.
absl::StatusOr<RankPart> WriteRankPart(FileSystem& fs, const std::string& folder, int rank, int parts,
                                       const std::function<std::vector<ShardedTensor>(int)>& part);

}  // namespace trefoil
