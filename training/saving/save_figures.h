// How long a save took: for the console, metrics.jsonl and TensorBoard (docs/metrics.md).
#pragma once

#include <cstdint>

namespace trefoil {

// Of a checkpoint that is complete.
struct SaveFigures {
  int64_t step = 0;          // that it is of
  bool in_memory = false;    // a snapshot, of every_steps_in_memory
  double write_seconds = 0;  // that rank 0 copied, wrote and flushed its part; in the foreground that all took
  double stall_seconds = 0;  // that training waited; in the foreground the same
};

}  // namespace trefoil
