#include "runtime/arena.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <string>

#include "runtime/number_text.h"

namespace trefoil {
namespace {

int64_t Rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

const char* Name(Purpose purpose) {
  constexpr std::array<const char*, kPurposes> kNames = {"weights",     "gradients",     "optimizer",
                                                         "activations", "communication", "workspace",
                                                         "snapshot",    "cache"};
  return kNames[static_cast<size_t>(purpose)];
}

std::shared_ptr<Arena> Arena::Create(Acquire acquire, Release release, Queue queue) {
  return std::shared_ptr<Arena>(new Arena(std::move(acquire), std::move(release), std::move(queue)));
}

Arena::Arena(Acquire acquire, Release release, Queue queue)
    : acquire_(std::move(acquire)), release_(std::move(release)), queue_(std::move(queue)) {}

Arena::~Arena() {
  for (auto& [shelf, blocks] : free_) {
    for (void* block : blocks) release_(block, shelf.bytes);
  }
}

void Arena::CountIn(int64_t bytes, Purpose purpose, bool dedicated) {
  const auto i = static_cast<size_t>(purpose);
  use_.current[i] += bytes;
  use_.peak[i] = std::max(use_.peak[i], use_.current[i]);
  use_.current_total += bytes;
  use_.peak_total = std::max(use_.peak_total, use_.current_total);
  if (observer_) observer_(purpose, bytes, dedicated);
}

void Arena::CountOut(int64_t bytes, Purpose purpose, bool dedicated) {
  use_.current[static_cast<size_t>(purpose)] -= bytes;
  use_.current_total -= bytes;
  if (observer_) observer_(purpose, -bytes, dedicated);
}

Arena::Block Arena::Allocate(int64_t bytes, Purpose purpose) {
  bytes = Rounded(bytes);
  Shelf shelf = {.pool = 0, .queue = queue_(), .bytes = bytes};
  void* data = nullptr;
  bool reused = false;
  {
    std::lock_guard lock(mutex_);
    CountIn(bytes, purpose, /*dedicated=*/false);
    Shelf common = shelf;
    if (const auto open = open_.find(shelf.queue); open != open_.end()) shelf.pool = open->second;
    reused = TakeFree(&shelf, &data);
    if (!reused && (reused = TakeFree(&common, &data))) shelf.bytes = common.bytes;
  }
  if (!reused) data = TakeFromDevice(bytes);
  // The handle keeps the arena alive, so a tensor may outlive its device. It is never null, even where data is.
  std::shared_ptr<void> owner(static_cast<void*>(this), [arena = shared_from_this(), data, shelf, bytes, purpose](void*) {
    arena->Return(data, shelf, bytes, purpose);
  });
  return Block{std::move(owner), data};
}

Arena::Block Arena::AllocateDedicated(int64_t bytes, Purpose purpose) {
  bytes = Rounded(bytes);
  {
    std::lock_guard lock(mutex_);
    CountIn(bytes, purpose, /*dedicated=*/true);
  }
  void* data = TakeFromDevice(bytes);
  std::shared_ptr<void> owner(static_cast<void*>(this), [arena = shared_from_this(), data, bytes, purpose](void*) {
    arena->release_(data, bytes);
    std::lock_guard lock(arena->mutex_);
    arena->CountOut(bytes, purpose, /*dedicated=*/true);
    arena->reserved_ -= bytes;
  });
  return Block{std::move(owner), data};
}

void* Arena::TakeFromDevice(int64_t bytes) {
  std::optional<void*> data = acquire_(bytes);
  if (!data && GiveBackFree() > 0) data = acquire_(bytes);
  if (data) {
    std::lock_guard lock(mutex_);
    ++acquisitions_;
    reserved_ += bytes;
    use_.reserved = std::max(use_.reserved, reserved_);
    return *data;
  }
  const MemoryUse now = use();
  std::string text;
  for (size_t i = 0; i < kPurposes; ++i) {
    text += (i == 0 ? "" : ", ") + BytesText(now.current[i]) + " of " + Name(static_cast<Purpose>(i));
  }
  LOG(FATAL) << "out of memory: " << bytes << " bytes more are wanted; in use, these included: " << text;
}

int64_t Arena::GiveBackFree() {
  std::map<Shelf, std::vector<void*>> free;
  int64_t bytes = 0;
  {
    std::lock_guard lock(mutex_);
    for (auto shelf = free_.begin(); shelf != free_.end();) {
      if (shelf->first.pool != 0) {
        ++shelf;
        continue;
      }
      bytes += shelf->first.bytes * static_cast<int64_t>(shelf->second.size());
      free.insert(free_.extract(shelf++));
    }
    reserved_ -= bytes;
  }
  for (auto& [shelf, blocks] : free) {
    for (void* block : blocks) release_(block, shelf.bytes);
  }
  return bytes;
}

bool Arena::TakeFree(Shelf* shelf, void** data) {
  const Shelf last = {.pool = shelf->pool,
                      .queue = shelf->queue,
                      .bytes = serves_smaller_ ? std::numeric_limits<int64_t>::max() : shelf->bytes};
  for (auto found = free_.lower_bound(*shelf); found != free_.end() && found->first <= last; ++found) {
    if (found->second.empty()) continue;
    *data = found->second.back();
    found->second.pop_back();
    *shelf = found->first;
    return true;
  }
  return false;
}

void Arena::ServeSmaller() {
  std::lock_guard lock(mutex_);
  serves_smaller_ = true;
}

void Arena::Return(void* data, Shelf shelf, int64_t bytes, Purpose purpose) {
  std::lock_guard lock(mutex_);
  CountOut(bytes, purpose, /*dedicated=*/false);
  if (!pools_.contains(shelf.pool)) shelf.pool = 0;
  free_[shelf].push_back(data);
}

std::unique_ptr<Arena::PrivatePool> Arena::NewPrivatePool() {
  const int queue = queue_();
  std::lock_guard lock(mutex_);
  const int64_t number = ++pools_made_;
  pools_.insert(number);
  CHECK(open_.emplace(queue, number).second) << "queue " << queue << " has an open private pool";
  return std::unique_ptr<PrivatePool>(new PrivatePool(shared_from_this(), number));
}

void Arena::Close(int64_t pool) {
  std::lock_guard lock(mutex_);
  std::erase_if(open_, [&](const auto& open) { return open.second == pool; });
}

void Arena::GiveUp(int64_t pool) {
  Close(pool);
  std::lock_guard lock(mutex_);
  pools_.erase(pool);
  const auto first = free_.lower_bound({.pool = pool, .queue = std::numeric_limits<int>::min(), .bytes = 0});
  for (auto shelf = first; shelf != free_.end() && shelf->first.pool == pool;) {
    std::vector<void*>& common = free_[{.pool = 0, .queue = shelf->first.queue, .bytes = shelf->first.bytes}];
    common.insert(common.end(), shelf->second.begin(), shelf->second.end());
    shelf = free_.erase(shelf);
  }
}

Arena::PrivatePool::~PrivatePool() { arena_->GiveUp(number_); }
void Arena::PrivatePool::Close() { arena_->Close(number_); }

MemoryUse Arena::use() const {
  std::lock_guard lock(mutex_);
  return use_;
}

void Arena::ResetPeak() {
  std::lock_guard lock(mutex_);
  use_.peak = use_.current;
  use_.peak_total = use_.current_total;
  use_.reserved = reserved_;
}

int64_t Arena::acquisitions() const {
  std::lock_guard lock(mutex_);
  return acquisitions_;
}

}  // namespace trefoil
