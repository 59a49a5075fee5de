// Memory of one device, by purpose, with high-water marks.
//
// An arena hands out blocks and takes them back; freed blocks are kept and handed out again to requests of the same
// size, so a training step, whose requests repeat, stops asking the system after its first run. It counts, per purpose,
// the bytes in use and their high-water mark: that is what the summary and the planner print.
//
// On a device whose threads have queues of their own, a block goes back to the queue that it was allocated for: the
// next owner's work is then queued behind the last one's.
//
// Steps whose shapes change would fill it with blocks of every size. Where the largest step has run, its blocks can serve
// the smaller ones: after ServeSmaller a request that finds no block of its size gets the smallest larger one that is free.
//
// Work that will run again without asking for memory (a recording, runtime/device.h) needs blocks that nobody else gets
// in the meantime:
//
//   auto mine = arena->NewPrivatePool();  // what this thread's queue allocates from here
//   mine->Close();                        // to here is nobody else's, free or not,
//   mine = nullptr;                       // until here
//
// A block that one thread replaces while others allocate (parallel/collectives/sum_buffer.h) is dedicated to it: else
// whether another finds the old one free, and so what the arena holds in the end, would hang on timing.
//
// Where the device has no more to give, free blocks of other sizes go back to it first: all but those of private pools.
// Only if that does not help the process ends, with the bytes by purpose.
//
// Block sizes are rounded up to 64 bytes, and so are addresses. Threads: all functions may be called from any thread.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace trefoil {

enum class Purpose : uint8_t { kWeights, kGradients, kOptimizer, kActivations, kCommunication, kWorkspace, kSnapshot, kCache };
inline constexpr int kPurposes = 8;
const char* Name(Purpose purpose);  // "weights", ...

struct MemoryUse {
  std::array<int64_t, kPurposes> current = {};  // bytes
  std::array<int64_t, kPurposes> peak = {};     // bytes, high-water mark since the start or ResetPeak
  int64_t current_total = 0, peak_total = 0;
  // The most bytes that the device gave: those in use, and those that wait for a request of their size.
  int64_t reserved = 0;
  // Beside the arena (Device::memory()): about what compiled kernels take; at most, on the host, for tensors of a device
  // that has memory of its own.
  int64_t compiled = 0, host = 0;
};

class Arena : public std::enable_shared_from_this<Arena> {
 public:
  // Nothing: there is no more. A device that only counts returns null pointers.
  using Acquire = std::function<std::optional<void*>(int64_t bytes)>;
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
  // A block that the device is asked for now and gets back with the last copy: it serves no other request. Work that
  // uses it must be done by then.
  Block AllocateDedicated(int64_t bytes, Purpose purpose);

  // From now on.
  void ServeSmaller();

  class PrivatePool {
   public:
    ~PrivatePool();
    void Close();

   private:
    friend class Arena;
    PrivatePool(std::shared_ptr<Arena> arena, int64_t number) : arena_(std::move(arena)), number_(number) {}
    const std::shared_ptr<Arena> arena_;
    const int64_t number_;
  };
  // For the calling thread's queue, which has none open. Blocks that come free while it is open serve it again, and so
  // do those that were free before; only then is the device asked for memory. Counts in `use` are as without it.
  std::unique_ptr<PrivatePool> NewPrivatePool();

  MemoryUse use() const;
  void ResetPeak();
  // Called at every allocation with its rounded size, and at every return with minus that; `dedicated` for those of
  // AllocateDedicated. Set while nothing is running; for one thread.
  using Observer = std::function<void(Purpose purpose, int64_t bytes, bool dedicated)>;
  void Observe(Observer observer) { observer_ = std::move(observer); }
  // Times that the arena had to ask the device for memory. Constant over steady steps.
  int64_t acquisitions() const;

 private:
  struct Shelf {
    int64_t pool;  // 0: none
    int queue;
    int64_t bytes;  // of each block
    auto operator<=>(const Shelf&) const = default;
  };

  Arena(Acquire acquire, Release release, Queue queue);
  // Both with the mutex held.
  void CountIn(int64_t bytes, Purpose purpose, bool dedicated);
  void CountOut(int64_t bytes, Purpose purpose, bool dedicated);
  // The shelf becomes the one that the block is from.
  bool TakeFree(Shelf* shelf, void** data);
  // Without the mutex: from the device, giving free blocks back where it has no more.
  void* TakeFromDevice(int64_t bytes);
  // Gives back what is free and in no private pool; its bytes.
  int64_t GiveBackFree();
  void Return(void* data, Shelf shelf, int64_t bytes, Purpose purpose);
  void Close(int64_t pool);
  void GiveUp(int64_t pool);

  const Acquire acquire_;
  const Release release_;
  const Queue queue_;
  mutable std::mutex mutex_;
  std::map<Shelf, std::vector<void*>> free_;
  int64_t pools_made_ = 0;       // so far
  std::set<int64_t> pools_;      // that exist
  std::map<int, int64_t> open_;  // by queue
  MemoryUse use_;
  bool serves_smaller_ = false;
  int64_t acquisitions_ = 0;
  int64_t reserved_ = 0;  // now
  Observer observer_;
};

}  // namespace trefoil
