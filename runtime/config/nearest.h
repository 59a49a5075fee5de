// Numbers near a wanted one that meet a rule: what the rules offer where a config breaks it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trefoil {

// a b. Config values are at most 2^31 each; products of several saturate instead of overflowing.
int64_t Product(int64_t a, int64_t b);

// All of n, at least 1, in ascending order.
std::vector<int64_t> Divisors(int64_t n);

// The divisors of n next to `wanted` on either side: "3, 6".
std::string NearestDivisors(int64_t n, int64_t wanted);

// The positive multiples of `base` next to `wanted`: "8, 16".
std::string NearestMultiples(int64_t base, int64_t wanted);

}  // namespace trefoil
