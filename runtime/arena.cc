#include "runtime/arena.h"

#include <algorithm>

namespace trefoil {

const char* Name(Purpose purpose) {
  constexpr std::array<const char*, kPurposes> kNames = {"weights",     "gradients",     "optimizer",
                                                         "activations", "communication", "workspace"};
  return kNames[static_cast<size_t>(purpose)];
}

std::shared_ptr<Arena> Arena::Create(Acquire acquire, Release release, Queue queue) {
  return std::shared_ptr<Arena>(new Arena(std::move(acquire), std::move(release), std::move(queue)));
}

Arena::Arena(Acquire acquire, Release release, Queue queue)
    : acquire_(std::move(acquire)), release_(std::move(release)), queue_(std::move(queue)) {}

Arena::~Arena() {
  for (auto& [shelf, blocks] : free_) {
    for (void* block : blocks) release_(block, shelf.second);
  }
}

Arena::Block Arena::Allocate(int64_t bytes, Purpose purpose) {
  bytes = (bytes + 63) / 64 * 64;
  const auto i = static_cast<size_t>(purpose);
  const Shelf shelf = {queue_(), bytes};
  void* data = nullptr;
  bool reused = false;
  {
    std::lock_guard lock(mutex_);
    use_.current[i] += bytes;
    use_.peak[i] = std::max(use_.peak[i], use_.current[i]);
    use_.current_total += bytes;
    use_.peak_total = std::max(use_.peak_total, use_.current_total);
    if (auto found = free_.find(shelf); found != free_.end() && !found->second.empty()) {
      data = found->second.back();
      found->second.pop_back();
      reused = true;
    } else {
      ++acquisitions_;
    }
  }
  if (!reused) data = acquire_(bytes);
  // The handle keeps the arena alive, so a tensor may outlive its device. It is never null, even where data is.
  std::shared_ptr<void> owner(static_cast<void*>(this), [arena = shared_from_this(), data, shelf, purpose](void*) {
    arena->Return(data, shelf, purpose);
  });
  return Block{std::move(owner), data};
}

void Arena::Return(void* data, Shelf shelf, Purpose purpose) {
  const auto i = static_cast<size_t>(purpose);
  std::lock_guard lock(mutex_);
  use_.current[i] -= shelf.second;
  use_.current_total -= shelf.second;
  free_[shelf].push_back(data);
}

MemoryUse Arena::use() const {
  std::lock_guard lock(mutex_);
  return use_;
}

void Arena::ResetPeak() {
  std::lock_guard lock(mutex_);
  use_.peak = use_.current;
  use_.peak_total = use_.current_total;
}

int64_t Arena::acquisitions() const {
  std::lock_guard lock(mutex_);
  return acquisitions_;
}

}  // namespace trefoil
