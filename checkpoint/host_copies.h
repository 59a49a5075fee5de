// Copies of ranks' files on further hosts, sent by the ranks themselves.
//
//   const auto part = WriteRankPart(fs, partial, rank, ...);            // this rank's files, on its own host
//   status = SendCopies(fs, group, storage.copies, partial, part);      // copies of them to others, and others' to this host
//
// Hosts are in a ring, in the order of their first ranks. The second copy of a host's files is on the host behind it, the
// third on the one behind that: whichever hosts are lost, one fewer in a row than there are copies, nothing is lost. Files
// keep their names: rank-00003.bin is rank 3's wherever it lies.
//
// Threads: SendCopies any, with a group of its own for each.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/rank_part.h"
#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// The ranks that write copies of rank `rank`'s files, one on each of the copies - 1 hosts behind its own.
std::vector<int> CopyHolders(const Hosts& hosts, int rank, int copies);

// Every rank of `all_ranks`, a group of all ranks of the job for tensors on the host, makes the call with the same copies
// and folder, a path on each host. `mine`: what this rank has written there, or why not, when none is sent. Returns the
// first thing that went wrong with what this rank sends or gets. On OK the content of the copies that it got is on disk,
// and is what was read where they come from; their names are not flushed.
absl::Status SendCopies(FileSystem& fs, Group& all_ranks, int copies, const std::string& folder,
                        const absl::StatusOr<RankPart>& mine);

}  // namespace trefoil
