#include "training/saving/background_writer.h"

#include <glog/logging.h>

#include <chrono>
#include <utility>

#include "checkpoint/writer.h"

namespace trefoil {

BackgroundWriter::BackgroundWriter(FileSystem& fs, World& world, Worker& worker, int most_copies)
    : fs_(fs),
      beside_(most_copies > 1 ? world.NewGroupBeside("checkpoint", Phase::kSave) : nullptr),
      all_(*worker.all),
      snapshot_(worker.store, worker.device),
      queue_(worker.device, worker.all->membership().patience, /*threaded=*/true) {}

void BackgroundWriter::Start(const CheckpointStorage& storage, const std::string& folder) {
  CHECK(!started_);
  started_ = true;
  copied_ = false;
  queue_.Start([this, storage, folder] {
    const auto begin = std::chrono::steady_clock::now();
    snapshot_.Take();
    {
      std::lock_guard lock(mutex_);
      copied_ = true;
    }
    changed_.notify_all();
    // Without copies no message is sent.
    Group& group = beside_ != nullptr ? *beside_ : all_;
    Written written = {
        .part = WriteWithCopies(fs_, group, storage, folder, 1, [&](int) { return snapshot_.slices(); })};
    written.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    {
      std::lock_guard lock(mutex_);
      written_ = std::move(written);
    }
    changed_.notify_all();
  });
}

void BackgroundWriter::WaitCopied() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return copied_; });
}

bool BackgroundWriter::writing() const {
  std::lock_guard lock(mutex_);
  return started_ && !written_.has_value();
}

BackgroundWriter::Written BackgroundWriter::Take() {
  CHECK(started_);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return written_.has_value(); });
  started_ = false;
  Written written = *std::move(written_);
  written_.reset();
  return written;
}

}  // namespace trefoil
