// Collectives of GPUs by NCCL: device memory to device memory, queued on the stream of the calling thread, so that a
// call returns before the result is there but whatever is queued next sees it.
//
//   std::unique_ptr<World> gpus = *NewNcclWorld(*mpi);     // every rank with a GPU of its own
//   auto group = gpus->NewGroup("data", ranks, *cuda_device);
//
// The host world under it starts the communicators and carries numbers and texts. RankSums::kOrdered are NCCL messages
// between pairs and then the op SumParts: the result is the one that every other implementation gives, for as many
// bytes as a ring sends (2 n (P-1)/P of an all-reduce). RankSums::kFastest are ncclAllReduce and ncclReduceScatter,
// which add in an order of their choice and take no buffer on the device. Gathers and broadcasts are NCCL's own with
// both, and counted as a ring's.
//
// Each pair of ranks that sends has a communicator and, at the sender, a stream and a thread (lane.h): a rank that
// sends waits for nobody. Tags are not used: messages between two ranks are received in the order of sending, whatever
// their tags, as those of a schedule are. None is to oneself. Send, like every call, needs the group's own thread.
// FinishSend and FinishSends wait on the queue, and on the host no longer than until the messages are queued: what is
// queued after them starts when the messages are delivered. Memory on the device is that of a null world that stands for
// NCCL; a recording (runtime/device.h) keeps the buffer of sums that it uses, should a larger sum follow.
//
// Failure: an error of NCCL, its own or one that it reports for another rank, or an operation that lasts longer than the
// world's time-out, ends the program with the group, the rank, the operation and NCCL's message (nccl_watchdog.h).
#pragma once

#include <memory>

#include "parallel/collectives/world.h"
#include "runtime/status.h"

namespace trefoil {

// An error in builds without CUDA. `host` outlives what is returned.
absl::StatusOr<std::unique_ptr<World>> NewNcclWorld(World& host);

}  // namespace trefoil
