// Batches to micro-batches: what of a batch each rank needs, as its modules read it, on the device.
//
//   const Constants constants = UploadConstants(worker);
//   MicroBatch micro_batch = UploadMicroBatch(worker, batch, constants, /*training=*/true);
//   UploadAgain(worker, batch, micro_batch);        // another batch of the same shapes, into the same tensors
//
// Threads: the rank's main thread.
#pragma once

#include "data/batch.h"
#include "model/context.h"
#include "training/worker.h"

namespace trefoil {

// What all micro-batches of a step have in common: where tokens are, whatever they are.
struct Constants {
  Sequences input, decoder;
};
Constants UploadConstants(const Worker& worker);

MicroBatch UploadMicroBatch(const Worker& worker, const Batch& batch, const Constants& constants, bool training);
void UploadAgain(const Worker& worker, const Batch& batch, const MicroBatch& micro_batch);

// Targets of the global batch.
int64_t GlobalTargets(const RunConfig& config);

}  // namespace trefoil
