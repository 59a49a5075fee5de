// Whether every byte of a checkpoint is as it was written.
//
//   const Verified verified = VerifyCheckpoint(fs, ".../step-00000100", {.threads = 4});
//   if (!verified.whole()) ... verified.damage ...
//
// All of it is looked at, whatever is found: the manifest's checksum, that of each of its parts, that the slices are
// disjoint and all of every tensor, the sizes of the data files, and the CRC32C of every chunk of them. Elements are
// read once, in the order in which they lie on disk, through a MiB of memory of each thread. A core computes checksums
// of about 10 GB/s: more threads than one are for disks that are faster than that, or that serve several readers faster
// than one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct VerifyOptions {
  int threads = 1;  // that read and compute checksums
  // Bytes that are done with since the last call: all together CheckpointBytesOnDisk (checkpoint/directory.h). From any
  // of the threads, one at a time.
  std::function<void(int64_t bytes)> progress = [](int64_t) {};
};

struct Verified {
  int64_t bytes = 0;  // that are as they were written
  // A line for each thing that is not: a file with what is wrong with it, of data files tensor, slice and bytes. By file,
  // and by place in it.
  std::vector<std::string> damage;
  bool whole() const { return damage.empty(); }
};

Verified VerifyCheckpoint(FileSystem& fs, const std::string& folder, const VerifyOptions& options);

// Which ranks' files are in a checkpoint's folder, by names and sizes: only the manifest is read.
struct FilesThere {
  int ranks = 0;      // that the manifest names
  int there = 0;      // whose files are there, with the sizes that they must have
  std::string wrong;  // with the first file of another rank
};
// Failure: the manifest is not what was written.
absl::StatusOr<FilesThere> LookForFiles(FileSystem& fs, const std::string& folder);

}  // namespace trefoil
