// Collectives of GPUs by NCCL: device memory to device memory, queued on the stream of the calling thread, so that a
// call returns before the result is there but whatever is queued next sees it.
//
//   std::unique_ptr<World> gpus = *NewNcclWorld(*mpi);     // every rank with a GPU of its own
//   auto group = gpus->NewGroup("data", ranks, *cuda_device);
//
// The host world under it starts the communicators and carries numbers and texts. Sums are NCCL messages between pairs
// and then the op SumParts in rank order: the result is the one that every other implementation gives, for as many bytes
// as a ring sends (2 n (P-1)/P of an all-reduce), where NCCL's own reductions would add in an order of their choice.
//
// Sends go on a stream of their own for each pair of ranks and direction, so that a rank that sends need not wait for
// its peer to receive.
//
// Failure: an error of NCCL, its own or one that it reports for another rank, ends the program with the group, the
// operation and NCCL's message. A rank that never comes is noticed by the host world, at its next message there.
#pragma once

#include <memory>

#include "parallel/world.h"
#include "runtime/status.h"

namespace trefoil {

// An error in builds without CUDA. `host` outlives what is returned.
absl::StatusOr<std::unique_ptr<World>> NewNcclWorld(World& host);

}  // namespace trefoil
