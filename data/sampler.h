// The order of samples as arithmetic: which sample of the data set is number k of the run?
//
//   Sampler sampler(/*size=*/1000, /*seed=*/7);
//   sampler.Index(0);      // some index in [0, 1000)
//   sampler.Index(1000);   // the first of the second epoch, which has another order
//
// A pure function of (seed, k, size): epoch e = k / size, position p = k % size, and the index is P_{seed,e}(p) for a
// pseudo-random permutation P of [0, size). Every sample is used once in each epoch. Nothing is built or stored, so the
// order does not depend on the number of ranks, the length of the run, or where it was resumed: rank d of n, given rows
// [d * B/n, (d+1) * B/n) of a batch, asks for just those k.
//
// P is a balanced Feistel network of 8 rounds (Luby & Rackoff, "How to construct pseudorandom permutations from
// pseudorandom functions", SIAM J. Comput. 17, 1988: 4 rounds suffice for random round functions) over the numbers of
// the fewest even number of bits that reaches `size`, with cycle walking: what falls outside [0, size) is put through
// again until it does not (Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, method 2). The domain
// is less than 4 size, so that takes less than 4 turns on average. The round function is the 64-bit finaliser of
// SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) of half a number and
// a key made from (seed, epoch, round). Its values are frozen by a test: changing it would change every resumed run.
//
// Threads: const, share freely.
#pragma once

#include <cstdint>

namespace trefoil {

class Sampler {
 public:
  // `size` samples in the data set, at least 1.
  Sampler(int64_t size, uint64_t seed);

  int64_t size() const { return size_; }
  // Index in [0, size) of sample k >= 0 of the run.
  int64_t Index(int64_t k) const;

 private:
  int64_t size_;
  uint64_t seed_;
  int half_bits_;  // the network permutes numbers of 2 * half_bits_ bits
};

}  // namespace trefoil
