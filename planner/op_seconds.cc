#include "planner/op_seconds.h"

#include <algorithm>

namespace trefoil {

OpCount PerDevice(OpCount count, int devices) {
  count.flops /= devices;
  count.bytes /= devices;
  return count;
}

double OpSeconds(const OpSpeed& speed, double peak_flops, const OpCount& count) {
  double shape = 1;
  if (count.product.rows > 0) {
    const auto share = [](int64_t size, double half) { return 1 / (1 + half / static_cast<double>(size)); };
    shape = share(count.product.rows, speed.half_rows()) * share(count.product.columns, speed.half_columns()) *
            share(count.product.inner, speed.half_inner());
  }
  double seconds = 0;
  if (const double rate = peak_flops * speed.efficiency() * shape; rate > 0) seconds = count.flops / rate;
  if (speed.gbytes_per_second() > 0) seconds = std::max(seconds, count.bytes / (1e9 * speed.gbytes_per_second()));
  return 1e-6 * speed.overhead_us() + seconds;
}

}  // namespace trefoil
