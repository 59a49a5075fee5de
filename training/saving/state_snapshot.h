// A copy, on the host, of what this rank writes of a checkpoint: the second buffer of saves in the background.
//
//   StateSnapshot snapshot(worker.store, device);   // takes its memory, once for all saves of a run
//   snapshot.Take();                                // while nothing changes the state
//   Write(snapshot.slices());                       // the state may change
//
// It holds what the rank owns (parallel/parameter_store.h) and nothing twice, so a rank whose elements others write needs
// none. On CPUs it is memory of the device, which the plan counts as purpose "snapshot"; on GPUs page-locked memory of the
// host, which the plan counts by itself.
//
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/parameter_store.h"
#include "runtime/arena.h"
#include "runtime/device.h"
#include "training/training.pb.h"

namespace trefoil {

// Whether a run makes saves in the background, and so needs a snapshot: it is to, and saves before its last step.
bool SavesInBackground(const TrainingConfig& training);

class StateSnapshot {
 public:
  // Both outlive it.
  StateSnapshot(const ParameterStore& store, Device& device);
  // The state as it is when the calling thread's queue gets there; on return it is copied.
  void Take();
  // In the order in which they are written. Their elements are those of the last Take.
  const std::vector<ShardedTensor>& slices() const { return slices_; }

 private:
  Device& device_;
  std::vector<Tensor> tensors_;  // of the slices, on the device
  Arena::Block block_;
  std::vector<ShardedTensor> slices_;
};

}  // namespace trefoil
