// Batches to micro-batches: what of a batch each rank needs, as its modules read it, on the device.
//
//   const Reader reader = ReaderOf(worker);
//   const Constants constants = UploadConstants(reader);
//   MicroBatch micro_batch = UploadMicroBatch(reader, batch, constants, /*training=*/true);
//   UploadAgain(worker, batch, micro_batch);        // another batch of the same shapes, into the same tensors
//
// Who has no worker, because nothing is trained, says itself what it reads, and how large its batches are:
//
//   const Reader reader = {.config = config, .role = role, .tensor = group, .device = device};
//   MicroBatch micro_batch = UploadMicroBatch(reader, batch, UploadConstants(reader, {2, 30, 0}), /*training=*/false);
//
// Threads: the rank's main thread.
#pragma once

#include "data/batch.h"
#include "model/context.h"
#include "training/worker.h"

namespace trefoil {

// Of a rank, all that a micro-batch depends on.
struct Reader {
  const RunConfig& config;
  const Role role;
  const Group& tensor;
  Device& device;
  const Group* token_ranks = nullptr;  // that share each sample's tokens; null: none but this
};
inline Reader ReaderOf(const Worker& worker) {
  return {worker.config, worker.role, *worker.tensor, worker.device, worker.context};
}
// Of batches of other lengths than the worker's (training/tasks/tasks.h).
inline Reader ReaderOf(const Worker& worker, const RunConfig& config) {
  return {config, worker.role, *worker.tensor, worker.device, worker.context};
}

// Samples of a micro-batch, and tokens of each.
struct BatchShape {
  int64_t samples = 0, tokens = 0, decoder_tokens = 0;
};

// What all micro-batches of a step have in common: where tokens are, whatever they are.
struct Constants {
  Sequences input, decoder;
};
Constants UploadConstants(const Reader& reader, const BatchShape& shape);
// Of the micro-batches that its config says.
Constants UploadConstants(const Reader& reader);

MicroBatch UploadMicroBatch(const Reader& reader, const Batch& batch, const Constants& constants, bool training);
void UploadAgain(const Worker& worker, const Batch& batch, const MicroBatch& micro_batch);

// Targets of the global batch.
int64_t GlobalTargets(const RunConfig& config);
// Of a sample, those that a rank has: of its own tokens. Where the batch says which tokens its targets are about, every
// rank has them all, and those of other ranks' tokens weigh nothing.
int64_t TargetsOfSample(const Reader& reader);

}  // namespace trefoil
