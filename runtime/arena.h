// Memory of one device, by purpose, with high-water marks.
//
// An arena hands out blocks and takes them back; freed blocks are kept and handed out again to requests of the same
// size, so a training step, whose requests repeat, stops asking the system after its first run. It counts, per purpose,
// the bytes in use and their high-water mark: that is what the summary and the planner print.
//
// Block sizes are rounded up to 64 bytes, and so are addresses. Threads: all functions may be called from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
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

  static std::shared_ptr<Arena> Create(Acquire acquire, Release release);
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
  Arena(Acquire acquire, Release release);
  void Return(void* data, int64_t bytes, Purpose purpose);

  const Acquire acquire_;
  const Release release_;
  mutable std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;  // by size
  MemoryUse use_;
  int64_t acquisitions_ = 0;
};

}  // namespace trefoil
