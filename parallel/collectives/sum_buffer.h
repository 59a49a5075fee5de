// Where a group lays the parts of a sum side by side before SumParts adds them: one buffer per group, kept.
//
//   const SumSegments segments = SegmentsOfMessages(ranks);
//   SumBuffer buffer(device, segments);
//   const Tensor parts = buffer.Parts(DType::kFloat32, ranks, n, n);  // [ranks, n], undefined content
//
// A long sum is made segment by segment, so that the buffer stays small whatever is summed. Its size is that of the
// largest segment so far, a function of what was summed (and of what was gathered in rounds) and of nothing else:
// memory at its peak is the sum over groups, whichever of their sums overlap in time, and so the planner can say it.
// Hence kept, apart from what the arena hands round, and one per group rather than one per device.
//
// Threads: the one that uses the group. Private to this folder.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "runtime/device.h"

namespace trefoil {

// How a sum over the ranks of a group is cut.
struct SumSegments {
  int64_t part_bytes;   // of one rank's part of a segment, at most
  int64_t small_bytes;  // a tensor of at most so many bytes goes whole to every rank
  // Whether a buffer that is replaced goes back to the system. Not on GPUs: giving memory back waits for all of the GPU's
  // work, and that may wait for a peer which waits for this rank.
  bool gives_back;
  // Up to so many ranks exchange directly; more in rounds (parallel/collectives/rounds.h), unless the parts of a
  // segment have as many bytes as this: of what is long, rounds cost more in copies than they save in messages.
  int direct_ranks = std::numeric_limits<int>::max();
  int64_t direct_bytes = std::numeric_limits<int64_t>::max();

  int64_t PartElements(DType dtype) const { return part_bytes / static_cast<int64_t>(SizeOf(dtype)); }
};
// Of MPI and threads: 1 MiB a rank, so that the parts to add are still in cache when they are added, and 4 KiB for the
// small. For more than 16 ranks 16 MiB in all, but no part below 4 KiB: 512 ranks send 32 KiB at a time.
// 8 exchange directly, and parts of 512 KiB, which only up to 32 ranks have.
SumSegments SegmentsOfMessages(int ranks);
// Of NCCL: 64 MiB in all, as few calls as that allows; nothing is small, and all ranks exchange directly.
SumSegments SegmentsOfNccl(int ranks);

class SumBuffer {
 public:
  // The device outlives it.
  SumBuffer(Device& device, const SumSegments& segments) : device_(device), gives_back_(segments.gives_back) {}
  // Waits for this thread's work on the device if the buffer is given back.
  ~SumBuffer();
  SumBuffer(const SumBuffer&) = delete;
  SumBuffer& operator=(const SumBuffer&) = delete;

  // Room for `count` elements of each rank: valid until the next call. `largest` is the count of the rank that has the
  // most, so that all ranks' buffers have one size. A larger one than before replaces the buffer: the old one is given
  // up first; to the system once this thread's work on the device is done, to the arena at once.
  Tensor Parts(DType dtype, int ranks, int64_t count, int64_t largest);
  // A recording (runtime/device.h) uses the buffer: it is kept even when it is replaced.
  void Pin() { pinned_ = true; }

 private:
  Device& device_;
  const bool gives_back_;
  Arena::Block buffer_;
  int64_t bytes_ = 0;
  bool pinned_ = false;
  std::vector<Arena::Block> replaced_;  // and pinned
};

}  // namespace trefoil
