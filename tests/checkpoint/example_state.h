// Global tensors with random elements, random ways to cut them over ranks, and saving and loading them so cut: what the
// checkpoint tests share. Elements are copied one by one by global index, as the independent reference.
//
//   const std::vector<GlobalTensor> state = RandomState(/*seed=*/1);
//   for (const absl::Status& status : Save({&fs, &fs}, folder, state, /*step=*/100, {.cut_seed = 7})) ...
//   EXPECT_EQ(Load(path, state, /*ranks=*/3, /*cut_seed=*/8), "");
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "checkpoint/writer.h"
#include "parallel/sharded_tensor.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct GlobalTensor {
  std::string name;
  DType dtype;
  Shape shape;
  std::vector<std::byte> data;
};

// Eleven tensors of 0 to 4 dims, of all dtypes; `scale` multiplies the outermost dims.
std::vector<GlobalTensor> RandomState(uint64_t seed, int64_t scale = 1);

// One rank's slices, and the memory they point to.
struct RankSlices {
  std::vector<ShardedTensor> slices;
  std::list<std::vector<std::byte>> memory;
};
// Rank `rank`'s part of `state`, cut in a way that follows from (cut_seed, ranks): by rows, by columns, in flat ranges,
// flat ranges of rows or columns, or into random boxes dealt out at random. Together the ranks hold each element once.
// With the elements if `filled`, else with bytes 0xaa.
RankSlices CutForRank(const std::vector<GlobalTensor>& state, int rank, int ranks, uint64_t cut_seed, bool filled);

// A save of these slices as `owner` "0a1b", each a part of its own, through one piece of memory: what the writer has not
// written when it asks for the next is lost. The trainer state and the model are "state of step N" and "a model".
CheckpointContent ContentOf(int64_t step, const std::vector<ShardedTensor>& slices);

struct SaveOptions {
  uint64_t cut_seed = 0;
  int keep_last = 0;
  int64_t keep_every = 0;
  std::string owner = "0a1b";
  std::function<absl::Status()> may_write = nullptr;
};
// WriteCheckpoint on as many ranks (threads) as file systems are given, then RemoveOldCheckpoints. The status of each.
std::vector<absl::Status> Save(const std::vector<FileSystem*>& file_systems, const std::string& folder,
                               const std::vector<GlobalTensor>& state, int64_t step, const SaveOptions& options);

// Reads the checkpoint at `path`, cut for each of `ranks`, and compares every byte with `state`. Empty if all is well,
// else the first error or difference.
std::string Load(const std::string& path, const std::vector<GlobalTensor>& state, int ranks, uint64_t cut_seed);
// The same by `ranks` threads, which open it together and locate their slices.
std::string LoadOnAll(const std::string& path, const std::vector<GlobalTensor>& state, int ranks, uint64_t cut_seed);

// Changes the lowest bit of a byte of a file, in place.
void FlipBit(const std::string& path, int64_t at);

}  // namespace trefoil
