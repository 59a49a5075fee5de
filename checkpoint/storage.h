// Where a job keeps its checkpoints: in one folder that all its hosts share, or in a folder of each host's own.
//
//   CheckpointStorage shared(run + "/checkpoints");
//   const auto own = CheckpointStorage::OfHosts("/local/run", /*copies=*/2);
//
// Of hosts with folders of their own each has, under the same path, the files of its own ranks, copies of files of its
// partners' ranks (checkpoint/host_copies.h), and the manifest, which is the same on all: a checkpoint is complete where
// the hosts that are there have the files of all ranks together (checkpoint/on_hosts.h).
//
// Threads: plain values.
#pragma once

#include <string>
#include <utility>

#include "parallel/collectives/group.h"

namespace trefoil {

struct CheckpointStorage {
  // Shared by all hosts.
  CheckpointStorage(std::string shared_folder) : folder(std::move(shared_folder)) {}  // NOLINT: a path says it all
  CheckpointStorage(const char* shared_folder) : folder(shared_folder) {}             // NOLINT
  // copies: of each rank's files, one on its host and the others on as many further hosts; at least 1, at most the hosts.
  static CheckpointStorage OfHosts(std::string folder, int copies) {
    CheckpointStorage storage(std::move(folder));
    storage.of_hosts = true;
    storage.copies = copies;
    return storage;
  }

  // The rank that makes, commits and removes checkpoints in a folder: rank 0, or the first of each host. `all`: every
  // rank of the job.
  bool Leads(const Group& all) const {
    return of_hosts ? all.membership().hosts->LocalRank(all.rank()) == 0 : all.rank() == 0;
  }

  std::string folder;
  bool of_hosts = false;
  int copies = 1;
};

}  // namespace trefoil
