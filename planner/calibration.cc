#include "planner/calibration.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace trefoil {
namespace {

using Values = std::vector<double>;

// Where f is least, as far as a simplex of points finds it that starts around `start`, `width` wide.
Values Minimise(const std::function<double(const Values&)>& f, const Values& start, double width) {
  const size_t n = start.size();
  std::vector<std::pair<double, Values>> simplex = {{f(start), start}};
  for (size_t i = 0; i < n; ++i) {
    Values x = start;
    x[i] += width;
    simplex.emplace_back(f(x), std::move(x));
  }
  // The point on the line from the worst point through the middle of the others; 1 is the worst point mirrored.
  const auto along = [&](const Values& middle, double how_far) {
    Values x(n);
    for (size_t i = 0; i < n; ++i) x[i] = middle[i] + how_far * (middle[i] - simplex[n].second[i]);
    const double value = f(x);
    return std::pair(value, std::move(x));
  };
  for (int iteration = 0; iteration < 2000; ++iteration) {
    std::sort(simplex.begin(), simplex.end());
    if (simplex[n].first - simplex[0].first < 1e-12 * (1 + std::abs(simplex[0].first))) break;
    Values middle(n);
    for (size_t p = 0; p < n; ++p) {
      for (size_t i = 0; i < n; ++i) middle[i] += simplex[p].second[i] / static_cast<double>(n);
    }
    auto next = along(middle, 1);
    if (next.first < simplex[0].first) {
      next = std::min(next, along(middle, 2));
    } else if (next.first >= simplex[n - 1].first) {
      next = along(middle, next.first < simplex[n].first ? 0.5 : -0.5);
      if (next.first >= simplex[n].first) {
        for (size_t p = 1; p <= n; ++p) {
          for (size_t i = 0; i < n; ++i) {
            simplex[p].second[i] = (simplex[p].second[i] + simplex[0].second[i]) / 2;
          }
          simplex[p].first = f(simplex[p].second);
        }
        continue;
      }
    }
    simplex[n] = std::move(next);
  }
  return std::min_element(simplex.begin(), simplex.end())->second;
}

// Again from what was found, with a fresh simplex, as one may have collapsed on the way.
Values MinimiseOften(const std::function<double(const Values&)>& f, Values at) {
  for (const double width : {1.0, 0.7, -0.5, 0.3, -0.2}) at = Minimise(f, at, width);
  return at;
}

double SquaredLogError(const OpSpeed& speed, double peak_flops, std::span<const OpCount> samples) {
  double sum = 0;
  for (const OpCount& sample : samples) {
    const double error = std::log(OpSeconds(speed, peak_flops, sample) / sample.seconds);
    sum += error * error;
  }
  return sum / static_cast<double>(samples.size());
}

// Searches the logarithms of `start`'s values between `least` and `most`; `set` makes a speed of values.
OpSpeed Fit(std::span<const OpCount> samples, double peak_flops, const Values& start, const Values& least,
            const Values& most, const std::function<OpSpeed(const Values&)>& set) {
  CHECK_GE(samples.size(), 2u);
  const auto values_of = [&](const Values& logs) {
    Values values(logs.size());
    for (size_t i = 0; i < logs.size(); ++i) values[i] = std::clamp(std::exp(logs[i]), least[i], most[i]);
    return values;
  };
  const auto error = [&](const Values& logs) {
    double sum = SquaredLogError(set(values_of(logs)), peak_flops, samples);
    for (size_t i = 0; i < logs.size(); ++i) {
      // Back between the bounds; and where the samples do not tell, near the start.
      const double outside = logs[i] - std::clamp(logs[i], std::log(least[i]), std::log(most[i]));
      const double away = logs[i] - std::log(start[i]);
      sum += outside * outside + 1e-6 * away * away;
    }
    return sum;
  };
  Values logs(start.size());
  for (size_t i = 0; i < start.size(); ++i) logs[i] = std::log(std::clamp(start[i], least[i], most[i]));
  Values values = values_of(MinimiseOften(error, logs));
  for (double& value : values) value = FourDigits(value);
  return set(values);
}

double LeastSeconds(std::span<const OpCount> samples) {
  double least = samples[0].seconds;
  for (const OpCount& sample : samples) least = std::min(least, sample.seconds);
  return least;
}

constexpr double kLeastOverhead = 1e-3, kMostOverhead = 1e6;  // us

}  // namespace

double FourDigits(double x) {
  if (x == 0) return 0;
  const double unit = std::pow(10, std::floor(std::log10(std::abs(x))) - 3);
  // Multiplied back by a whole power of ten where there is one: 0.45, not 0.45000000000000001.
  return unit < 1 ? std::round(x / unit) / std::round(1 / unit) : std::round(x / unit) * unit;
}

namespace {

// As Fit, with a bandwidth in GB/s as one more value. One that limits no sample may change without a difference: the
// search needs to start on either side.
OpSpeed FitWithBandwidth(std::span<const OpCount> samples, double peak_flops, double bandwidth, Values start,
                         Values least, Values most, const std::function<OpSpeed(const Values&)>& set) {
  const double gbytes = 1e-9 * bandwidth;
  least.push_back(gbytes / 10);
  most.push_back(20 * gbytes);
  start.push_back(0);
  OpSpeed found;
  double least_error = 0;
  for (const double factor : {0.2, 0.5, 1.0, 2.0, 5.0}) {
    start.back() = factor * gbytes;
    const OpSpeed speed = Fit(samples, peak_flops, start, least, most, set);
    const double error = SquaredLogError(speed, peak_flops, samples);
    if (factor == 0.2 || error < least_error) {
      least_error = error;
      found = speed;
    }
  }
  return found;
}

double BestEfficiency(std::span<const OpCount> samples, double peak_flops) {
  double best = 0;
  for (const OpCount& sample : samples) best = std::max(best, sample.flops / sample.seconds / peak_flops);
  return best;
}

}  // namespace

OpSpeed FitProducts(std::span<const OpCount> samples, double peak_flops, double bandwidth) {
  return FitWithBandwidth(samples, peak_flops, bandwidth,
                          {5e5 * LeastSeconds(samples), BestEfficiency(samples, peak_flops), 16, 16, 16},
                          {kLeastOverhead, 1e-3, 0.1, 0.1, 0.1}, {kMostOverhead, 2, 1e4, 1e4, 1e4},
                          [](const Values& values) {
                            OpSpeed speed;
                            speed.set_overhead_us(values[0]);
                            speed.set_efficiency(values[1]);
                            speed.set_half_rows(values[2]);
                            speed.set_half_columns(values[3]);
                            speed.set_half_inner(values[4]);
                            speed.set_gbytes_per_second(values[5]);
                            return speed;
                          });
}

OpSpeed FitFlops(std::span<const OpCount> samples, double peak_flops, double bandwidth) {
  return FitWithBandwidth(samples, peak_flops, bandwidth,
                          {5e5 * LeastSeconds(samples), BestEfficiency(samples, peak_flops)}, {kLeastOverhead, 1e-6},
                          {kMostOverhead, 2}, [](const Values& values) {
                            OpSpeed speed;
                            speed.set_overhead_us(values[0]);
                            speed.set_efficiency(values[1]);
                            speed.set_gbytes_per_second(values[2]);
                            return speed;
                          });
}

OpSpeed FitBytes(std::span<const OpCount> samples) {
  double best = 0;
  for (const OpCount& sample : samples) best = std::max(best, 1e-9 * sample.bytes / sample.seconds);
  const auto set = [](const Values& values) {
    OpSpeed speed;
    speed.set_overhead_us(values[0]);
    speed.set_gbytes_per_second(values[1]);
    return speed;
  };
  return Fit(samples, 1, {5e5 * LeastSeconds(samples), best}, {kLeastOverhead, 1e-6}, {kMostOverhead, 1e6}, set);
}

Link FitLink(std::span<const std::pair<double, double>> messages) {
  std::vector<OpCount> samples(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    samples[i].bytes = messages[i].first;
    samples[i].seconds = messages[i].second;
  }
  const OpSpeed speed = FitBytes(samples);
  Link link;
  link.set_latency_us(speed.overhead_us());
  link.set_gbytes_per_second(speed.gbytes_per_second());
  return link;
}

FitErrors ErrorsOf(const OpSpeed& speed, double peak_flops, std::span<const OpCount> samples) {
  CHECK(!samples.empty());
  Values errors;
  for (const OpCount& sample : samples) {
    errors.push_back(std::expm1(std::abs(std::log(OpSeconds(speed, peak_flops, sample) / sample.seconds))));
  }
  FitErrors result;
  result.worst_sample = static_cast<size_t>(std::max_element(errors.begin(), errors.end()) - errors.begin());
  result.worst = errors[result.worst_sample];
  std::sort(errors.begin(), errors.end());
  result.median = errors[errors.size() / 2];
  return result;
}

}  // namespace trefoil
