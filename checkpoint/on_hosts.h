// Checkpoints in folders of hosts' own (checkpoint/storage.h): which are there, and which host has whose files.
//
//   TREFOIL_ASSIGN_OR_RETURN(const auto found, FindOnHosts(fs, all, "/local/run", &notes));       // every rank
//   TREFOIL_ASSIGN_OR_RETURN(auto reader, CheckpointReader::OpenOnAll(fs, all, found.front()));   // checkpoint/reader.h
//
// A host's folder of a step is committed after all hosts have flushed all files of it, so files of one manifest (by its
// checksum) belong together wherever they are found; hosts may have come back in another order, under other names, or not
// at all.
//
// Threads: plain values; FindOnHosts the rank's main thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct CheckpointOnHosts {
  std::string path;      // the same on each host that has something of it: ".../step-00000100"
  std::string manifest;  // the text of manifest.json, on rank 0; empty elsewhere
  // For each rank that wrote files the hosts, at least one, that have both of them; hosts are numbered as in
  // Hosts::RanksByHost() of the job at hand.
  std::map<int, std::vector<int>> holders;
};

// Those that the hosts have all files of together, newest first, at most kMostFound; every rank gets the same. Of two of
// one step that which more hosts have comes first. Only names, sizes and manifests are looked at. On rank 0 `notes` gets a
// line for each newer step that is not complete, with whose files are missing. `all`: every rank of the job.
inline constexpr int kMostFound = 8;
absl::StatusOr<std::vector<CheckpointOnHosts>> FindOnHosts(FileSystem& fs, Group& all, const std::string& folder,
                                                           std::vector<std::string>* notes);

// Who hands out the files of rank `rank` on a host of these ranks: so that those that ask for many ask many.
inline int ServerOf(const std::vector<int>& ranks_of_host, int rank) {
  return ranks_of_host[static_cast<size_t>(rank) % ranks_of_host.size()];
}

}  // namespace trefoil
