// What the model trains on: `samples` samples, as named tensors whose outermost dim counts them.
//
//   Batch batch = ...;                                    // B = batch.samples, T = batch.length
//   batch.inputs.values<int32_t>()[b * T + t]             // token t of row b
//   batch.targets.values<int32_t>()[b * T + t]            // of a decoder: token t + 1 of row b
//
// Ids are in [0, vocabulary) where they are looked up; the source has checked that. The loss of a step is
//
//   sum(weight * loss) / sum(weight)       over the targets of the global batch
//
// whatever ranks and micro-batches they are on. A weight of 0 leaves a target out: no loss, no gradient, and its id may
// be anything. A source gives weights with every batch (data/samples.h says so beforehand, so that ranks know without
// asking each other) or with none: all 1.
//
// Letters: B samples, T tokens (or patches and class token) of each one's input, U targets of each, D tokens that a
// decoder reads, P values of a patch.
//
// A new task that needs another tensor adds it here, undefined for the others; its place on the device to MicroBatch
// (model/context.h); and a line to the table of training/upload.cc.
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

  // What goes in.
  HostTensor inputs = {};          // [B, T] int32: tokens
  HostTensor lengths = {};         // [B] int32: tokens of an input that are real; padding behind them. Undefined: T each
  HostTensor document_starts = {};  // [B, T] int32: the token of its sample at which a token's document begins
  HostTensor segments = {};        // [B, T] int32: 0 for the first text of a pair, 1 for the second
  HostTensor decoder_inputs = {};  // [B, D] int32: tokens; padding at their end, if any, has targets of weight 0
  HostTensor patches = {};         // [B, T, P] float32: of an image; a row of zeros for the class token
  HostTensor patch_places = {};    // [B, T] int32: which place of the image a patch has, from 1; 0: the class token

  // What is to come out.
  HostTensor targets = {};  // [B, U] int32: ids of tokens or classes
  HostTensor values = {};   // [B, U, P] float32: where targets are no ids
  HostTensor places = {};   // [B, U] int32: which token of its sample a target is about. Undefined: target u about token u
  HostTensor weights = {};  // [B, U] float32, of the targets, not negative. Undefined: all 1
};

}  // namespace trefoil
