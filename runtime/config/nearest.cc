#include "runtime/config/nearest.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <limits>

namespace trefoil {

int64_t Product(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<int64_t>::max() : product;
}

std::vector<int64_t> Divisors(int64_t n) {
  std::vector<int64_t> divisors;
  for (int64_t i = 1; i * i <= n; ++i) {
    if (n % i != 0) continue;
    divisors.push_back(i);
    if (i != n / i) divisors.push_back(n / i);
  }
  std::sort(divisors.begin(), divisors.end());
  return divisors;
}

std::string NearestDivisors(int64_t n, int64_t wanted) {
  const std::vector<int64_t> divisors = Divisors(n);
  const auto above = std::lower_bound(divisors.begin(), divisors.end(), wanted);
  std::vector<int64_t> nearest;
  if (above != divisors.begin()) nearest.push_back(*(above - 1));
  if (above != divisors.end()) nearest.push_back(*above);
  return absl::StrJoin(nearest, ", ");
}

std::string NearestMultiples(int64_t base, int64_t wanted) {
  const int64_t below = wanted / base * base;
  if (below == 0) return absl::StrCat(base);
  return absl::StrCat(below, ", ", below + base);
}

}  // namespace trefoil
