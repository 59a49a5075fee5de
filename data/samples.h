// Where batches come from: an endless row of samples, of which sample k is a function of (seed, k).
//
//   const Samples& samples = ...;
//   TREFOIL_ASSIGN_OR_RETURN(Batch batch, samples.Get(/*first_sample=*/step * 32 + rank * 8, /*count=*/8));
//
// So ranks that ask for different rows need not talk, resuming needs no state, and the data room knows no mesh.
//
// Threads: const calls from any.
#pragma once

#include <cstdint>
#include <optional>

#include "data/batch.h"
#include "runtime/status.h"

namespace trefoil {

// How long the sequences of a batch are, padding included: T and D of data/batch.h.
struct SampleLengths {
  int64_t inputs = 0, decoder = 0;
  bool operator==(const SampleLengths&) const = default;
};

class Samples {
 public:
  virtual ~Samples() = default;
  // In one epoch: what there is, each once.
  virtual int64_t samples() const = 0;
  // Samples [first_sample, first_sample + count) of the run, any first_sample >= 0; always with the same tensors, of the
  // same shapes but for B, and T and D where Lengths says so. Failure: a file that cannot be read, or holds what the
  // model cannot take.
  virtual absl::StatusOr<Batch> Get(int64_t first_sample, int64_t count) const = 0;
  // Whether its batches have weights.
  virtual bool weighted() const { return false; }
  // T and D of the batch of these samples, where that depends on them. Unset: always the same. Reads no file.
  virtual std::optional<SampleLengths> Lengths(int64_t /*first_sample*/, int64_t /*count*/) const {
    return std::nullopt;
  }
};

}  // namespace trefoil
