// What the model trains on: `samples` samples, as named tensors whose outermost dim counts them.
//
//   Batch batch = ...;                                    // B = batch.samples, T = batch.length
//   batch.inputs.values<int32_t>()[b * T + t]             // token t of row b
//   batch.targets.values<int32_t>()[b * T + t]            // token t + 1 of row b
//
// Ids are in [0, vocabulary) where they are looked up; the loader has checked that. The loss of a step is
//
//   sum(weight * loss) / sum(weight)       over the targets of the global batch
//
// whatever ranks and micro-batches they are on. A weight of 0 leaves a target out: no loss, no gradient, and its id may
// be anything. A source gives weights with every batch (BatchSource in training/step.h says so beforehand, so that
// ranks know without asking each other) or with none: all 1.
//
// A new task that needs another tensor adds it here, undefined for the others; its place on the device to MicroBatch
// (model/context.h); and a line to UploadMicroBatch and ReplayBatches (training/step.cc), for the ranks that need it.
//
// A plain value: copy or move it.
#pragma once

#include <cstdint>

#include "data/host_tensor.h"

namespace trefoil {

struct Batch {
  int64_t samples = 0;       // B
  int64_t length = 0;        // T
  int64_t first_sample = 0;  // number within the run of row 0: row b is sample first_sample + b of the run
  HostTensor inputs = {};    // [B, T] int32: tokens
  HostTensor targets = {};   // [B, T] int32; the decoder's: the inputs moved by one token
  HostTensor weights = {};   // [B, T] float32, of the targets, not negative; undefined: all 1
};

}  // namespace trefoil
