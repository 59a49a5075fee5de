// An order of samples in which neighbours have similar length, so that little of a batch is padding.
//
//   LengthOrder order(/*size=*/100000, [&](int64_t i) { return length[i]; }, /*batch=*/64, seed);
//   order.Index(k);   // which of the 100000 is sample k of the run
//
// A pure function of (seed, k) as data/sampler.h is, and with it each sample once in each epoch: the epoch's
// permutation is cut into windows of kWindow batches, the samples of a window are sorted by length and so fall into
// batches, and the window's batches are put in a random order again. What a batch has beside its lengths is random, and
// so are the lengths of the next one. Batches are numbers [g * batch, (g + 1) * batch) of the run, as steps take them.
// Where an epoch ends within a batch, what it has of that one, and its successor's share, is in no window and not
// sorted.
//
// Cost: the first of a window sorts it; the windows of last use are kept, 8 bytes a sample.
//
// Threads: const calls from any.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "data/sampler.h"

namespace trefoil {

// Whether batches are padded to the longest of their samples, rounded up to a multiple, and not to the longest there may be.
// Multiples are what matrix units like, and there are few of them.
struct Shortening {
  int64_t multiple = 0;  // 0: not shortened

  bool on() const { return multiple > 0; }
  int64_t Of(int64_t length, int64_t longest) const {
    return std::min(longest, (length + multiple - 1) / multiple * multiple);
  }
};

class LengthOrder {
 public:
  static constexpr int64_t kWindow = 100;  // batches

  // `length` of sample i in [0, size) may be any number that grows with it; called later and from any thread. `size`
  // and `batch` are at least 1.
  LengthOrder(int64_t size, std::function<int64_t(int64_t)> length, int64_t batch, uint64_t seed);

  // Index in [0, size) of sample k >= 0 of the run.
  int64_t Index(int64_t k) const;

 private:
  using Samples = std::shared_ptr<const std::vector<int64_t>>;
  // The samples of the window whose `count` samples are, before sorting, those from `first` on of the run.
  Samples Window(int64_t first, int64_t count) const;
  std::vector<int64_t> Sort(int64_t first, int64_t count) const;

  const std::function<int64_t(int64_t)> length_;
  const int64_t batch_;
  const Sampler sampler_;
  const uint64_t batches_seed_;

  struct Kept {
    int64_t first = -1;
    Samples samples;
  };
  mutable std::mutex mutex_;
  mutable std::array<Kept, 2> kept_;  // the newest first
};

}  // namespace trefoil
