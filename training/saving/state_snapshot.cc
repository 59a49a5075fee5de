#include "training/saving/state_snapshot.h"

#include <utility>

namespace trefoil {

bool SavesInBackground(const TrainingConfig& training) {
  const CheckpointConfig& checkpoint = training.checkpoint();
  if (checkpoint.writing() != CheckpointConfig::BACKGROUND) return false;
  const auto before_the_end = [&](int64_t every) { return every > 0 && every < training.steps(); };
  return before_the_end(checkpoint.every_steps()) || before_the_end(checkpoint.every_steps_in_memory()) ||
         (training.early_stop().evaluations() > 0 && before_the_end(training.evaluate_every_steps()));
}

StateSnapshot::StateSnapshot(const ParameterStore& store, Device& device) : device_(device) {
  int64_t bytes = 0;
  for (ParameterStore::StateRange& range : store.OwnedState()) {
    bytes += range.slice.bytes();
    tensors_.push_back(range.tensor);
    slices_.push_back(std::move(range.slice));
  }
  if (bytes == 0) return;
  block_ = device.host_arena().AllocateDedicated(bytes, Purpose::kSnapshot);
  auto* data = static_cast<std::byte*>(block_.data);
  for (ShardedTensor& slice : slices_) {
    slice.data = data;
    if (data != nullptr) data += slice.bytes();
  }
}

void StateSnapshot::Take() {
  for (size_t i = 0; i < slices_.size(); ++i) device_.Download(tensors_[i], slices_[i].data);
}

}  // namespace trefoil
