// Reading slices of data files: which chunks are wanted, their checksums, and what of them goes where. Internal to
// checkpoint/.
//
// Threads: plain values and functions of their arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checked_files.h"
#include "checkpoint/slices.h"
#include "parallel/sharded_tensor.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// Copies from a slice, which comes in chunks from first to last, what lies within a target.
class SliceCopier {
 public:
  SliceCopier(const ManifestSlice& slice, const ShardedTensor& target, const Box& both);
  // Whether elements before `end` of the slice are still to be copied.
  bool Wants(int64_t end) const;
  // `chunk` holds the slice's elements [begin, end); those before that were wanted have been copied. Null: as if it had
  // been copied.
  void Copy(const std::byte* chunk, int64_t begin, int64_t end);

 private:
  // Global index of the first element of a run.
  Shape StartOf(int64_t run) const;

  Box slice_;
  const ShardedTensor* target_;
  Box both_;
  int64_t element_;
  int split_;
  int64_t run_, runs_, next_ = 0;
};

// A slice to be read, and the targets that want something of it.
struct SliceJob {
  const ManifestTensor* tensor;
  const ManifestSlice* slice;
  std::vector<SliceCopier> copiers;

  // Those of the slice of which something is wanted, in order.
  std::vector<Chunk> WantedChunks() const;
  // The whole chunk, in one piece: checks and copies.
  absl::Status TakeChunk(const Chunk& chunk, std::span<const std::byte> bytes, const std::string& path);
  // Reads, checks and copies all chunks that are wanted, through a buffer of kReadBlock bytes.
  absl::Status Read(const ReadableFile& file, const std::string& path, std::span<std::byte> buffer);
};

// What is to be read for the targets, in the order in which it lies on disk, of slices that together have all of them.
// `tensors`: sorted by name; they, and the targets, outlive the jobs.
std::vector<SliceJob> JobsFor(const std::vector<ManifestTensor>& tensors, std::span<const ShardedTensor> targets);

}  // namespace trefoil
