// Sums that do not depend on the order of addition: of losses, and of the squares that make the norm of gradients. So
// both are the same number, to the bit, however elements lie on ranks.
//
// A number is kept to multiples of 2^-128, in fixed point: what is below is rounded off each summand, by itself, and
// everything above is added exactly. That covers squares of float32 from 1e-19 to 1e27 (gradients; below, a square
// counts as 0). In the spirit of Demmel & Nguyen 2015 (Parallel reproducible summation), with a fixed grid in place of
// theirs, which follows the largest summand.
//
//   ExactSum sum;
//   sum.AddBlock(bins);            // what a kernel made of some summands
//   sum.Add(other);                // of other elements, other ranks; or limb by limb, in any order
//   sum.value();
//
// Threads: a plain value.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

namespace trefoil {

// A summand s is cut into bins: bin k takes a multiple of the grid 2^(36 k - 128), at most half of the next grid, so
// that the bin's sum over 2^16 summands is exact in double.
inline constexpr int kExactBins = 7, kExactBinBits = 36, kExactLowest = -128;
// Summands below this in size are exact; others, and what is not finite, are added in double apart.
inline constexpr double kExactMost = 0x1p120;
// As many at most in one bin before it is carried.
inline constexpr int64_t kExactBlock = 1 << 16;

// 1.5 * 2^52 grids: adding it to a smaller number in double and taking it away rounds the number to the grid.
// From its bits: kernels ask for it with each summand.
constexpr double ExactRounder(int bin) {
  const int exponent = 52 + kExactBinBits * bin + kExactLowest;
  return std::bit_cast<double>(uint64_t{1023u + static_cast<unsigned>(exponent)} << 52 | uint64_t{1} << 51);
}
static_assert(ExactRounder(0) == 1.5 * 0x1p-76 && ExactRounder(4) == 1.5 * 0x1p68);

class ExactSum {
 public:
  // Limb k counts grids of bin k; the last one is of no grid: summands that are beyond kExactMost. Limbs of several
  // sums may be added one by one: exactly for up to 2^16 sums that have been carried.
  static constexpr int kLimbs = kExactBins + 1;

  // The sums of a block's bins, in their unit (not in grids), and what was beyond.
  void AddBlock(const double (&bins)[kExactBins], double beyond) {
    for (size_t k = 0; k < kExactBins; ++k) limbs_[k] += std::ldexp(bins[k], -Exponent(k));
    limbs_[kExactBins] += beyond;
    Carry();
  }
  void Add(const ExactSum& other) {
    for (size_t k = 0; k < kLimbs; ++k) limbs_[k] += other.limbs_[k];
    Carry();
  }

  std::span<double, kLimbs> limbs() { return limbs_; }
  std::span<const double, kLimbs> limbs() const { return limbs_; }

  // Rounded to double; the same for the same sum, whatever it was added from.
  double value() const {
    ExactSum carried = *this;
    carried.Carry();
    double sum = 0;
    for (size_t k = kExactBins; k-- > 0;) sum += std::ldexp(carried.limbs_[k], Exponent(k));
    return sum + limbs_[kExactBins];
  }

 private:
  static int Exponent(size_t k) { return kExactBinBits * static_cast<int>(k) + kExactLowest; }
  // Brings all limbs but the highest into [0, 2^36), which makes the form of a number unique.
  void Carry() {
    constexpr double kUnit = 0x1p36;
    for (size_t k = 0; k + 1 < kExactBins; ++k) {
      const double carry = std::floor(limbs_[k] / kUnit);
      limbs_[k] -= carry * kUnit;
      limbs_[k + 1] += carry;
    }
  }

  std::array<double, kLimbs> limbs_ = {};
};

}  // namespace trefoil
