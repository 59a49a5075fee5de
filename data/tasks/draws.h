// Random choices for a sample of the run: a function of (seed, what they are for, sample), as all of the data is.
//
//   Draws draws(RandomKey(seed, "masked_tokens"), sample);
//   draws.Below(6);         // 0 to 5
//   draws.Uniform();        // in [0, 1)
//   draws.Choose(3, 100);   // three different numbers below 100, in random order
//
// Draw i is lane i % 4 of Philox's block (sample, i / 4) under the key (runtime/random.h). What a draw is must never
// change, nor what a task makes of it: changing either would change every resumed run.
//
// Threads: one at a time.
#pragma once

#include <glog/logging.h>

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "runtime/random.h"

namespace trefoil {

class Draws {
 public:
  Draws(uint64_t key, int64_t sample) : key_(key), sample_(static_cast<uint64_t>(sample)) {}

  uint32_t Bits() {
    const uint64_t lane = next_ % 4;
    if (lane == 0) block_ = Philox(key_, sample_, next_ / 4);
    ++next_;
    return block_[lane];
  }
  float Uniform() { return trefoil::Uniform(Bits()); }
  // Uniform in [0, bound) to within bound / 2^32; bound in [1, 2^32].
  int64_t Below(int64_t bound) {
    CHECK(bound >= 1 && bound <= int64_t{1} << 32) << bound;
    return static_cast<int64_t>(Bits() * static_cast<uint64_t>(bound) >> 32);
  }
  // `count` different numbers of [0, size), each ordered choice as likely as any other (Fisher & Yates; Durstenfeld
  // 1964).
  std::vector<int64_t> Choose(int64_t count, int64_t size) {
    CHECK_LE(count, size);
    std::vector<int64_t> numbers(static_cast<size_t>(size));
    std::iota(numbers.begin(), numbers.end(), 0);
    for (int64_t i = 0; i < count; ++i) std::swap(numbers[i], numbers[i + Below(size - i)]);
    numbers.resize(static_cast<size_t>(count));
    return numbers;
  }

 private:
  const uint64_t key_, sample_;
  uint64_t next_ = 0;
  PhiloxBlock block_ = {};
};

}  // namespace trefoil
