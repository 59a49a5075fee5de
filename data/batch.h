// What the model trains on: `samples` rows of `length` tokens, and for each token the one that follows it.
//
//   Batch batch = ...;                             // B = batch.samples, T = batch.length
//   batch.inputs[b * T + t]                        // token t of row b
//   batch.targets[b * T + t]                       // token t + 1 of row b
//
// Ids are in [0, vocabulary); the loader has checked that. A plain value: copy or move it.
#pragma once

#include <cstdint>
#include <vector>

namespace trefoil {

struct Batch {
  int64_t samples = 0;       // B
  int64_t length = 0;        // T
  int64_t first_sample = 0;  // number within the run of row 0: row b is sample first_sample + b of the run
  std::vector<int32_t> inputs;   // [B, T] row-major
  std::vector<int32_t> targets;  // [B, T] row-major: the inputs moved by one token
};

}  // namespace trefoil
