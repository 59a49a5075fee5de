// Memory of one device, by purpose, with high-water marks.
//
// An arena hands out blocks and takes them back; freed blocks are kept and handed out again to requests of the same
// size, so a training step, whose requests repeat, stops asking the system after its first run. It counts, per purpose,
// the bytes in use and their high-water mark: that is what the summary and the planner print.
//
// On a device whose threads have queues of their own, a block goes back to the queue that it was allocated for: the
// next owner's work is then queued behind the last one's.
//
// Block sizes are rounded up to 64 bytes, and so are addresses. Threads: all functions may be called from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace trefoil {

enum class Purpose : uint8_t { kWeights, kGradients, kOptimizer, kActivations, kCommunication, kWorkspace };
inline constexpr int kPurposes = 6;
const char* Name(Purpose purpose);  // "weights", ...

struct MemoryUse {
  std::array<int64_t, kPurposes> current = {};  // bytes
  std::array<int64_t, kPurposes> peak = {};     // bytes, high-water mark since the start or ResetPeak
  int64_t current_total = 0, peak_total = 0;
};

class Arena : public std::enable_shared_from_this<Arena> {
 public:
  using Acquire = std::function<void*(int64_t bytes)>;  // may return null: a device that only counts
  using Release = std::function<void(void*, int64_t bytes)>;

  using Queue = std::function<int()>;  // number of the calling thread's queue

  static std::shared_ptr<Arena> Create(Acquire acquire, Release release, Queue queue = [] { return 0; });
  ~Arena();

  struct Block {
    std::shared_ptr<void> owner;  // the block returns to the arena with the last copy of this; never null
    void* data = nullptr;
  };
  // `bytes` may be 0. The content is undefined.
  Block Allocate(int64_t bytes, Purpose purpose);
  MemoryUse use() const;
  void ResetPeak();
  // Times that the arena had to ask the device for memory. Constant over steady steps.
  int64_t acquisitions() const;

 private:
  using Shelf = std::pair<int, int64_t>;  // queue and size

  Arena(Acquire acquire, Release release, Queue queue);
  void Return(void* data, Shelf shelf, Purpose purpose);

  const Acquire acquire_;
  const Release release_;
  const Queue queue_;
  mutable std::mutex mutex_;
  std::map<Shelf, std::vector<void*>> free_;
  MemoryUse use_;
  int64_t acquisitions_ = 0;
};

}  // namespace trefoil
