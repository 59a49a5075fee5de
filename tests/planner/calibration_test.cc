// What a fit finds, on times made from known speeds with noise.
#include "planner/calibration.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/random.h"

namespace trefoil {
namespace {

constexpr double kPeak = 50e9, kBandwidth = 8e9;

// Factors around 1, from `1 - noise` to `1 + noise`.
class Noise {
 public:
  explicit Noise(double noise) : noise_(noise) {}
  double operator()() {
    const uint32_t bits = Philox(/*key=*/3, count_++)[0];
    return 1 + noise_ * (2 * static_cast<double>(bits) / 4294967295.0 - 1);
  }

 private:
  const double noise_;
  uint64_t count_ = 0;
};

OpSpeed Known() {
  OpSpeed speed;
  speed.set_overhead_us(12);
  speed.set_efficiency(0.8);
  speed.set_half_rows(6);
  speed.set_half_columns(40);
  speed.set_half_inner(90);
  speed.set_gbytes_per_second(5);
  return speed;
}

OpCount ProductOf(int64_t rows, int64_t columns, int64_t inner) {
  OpCount count;
  count.op = "matmul";
  count.product = {rows, columns, inner};
  count.flops = 2.0 * static_cast<double>(rows * columns * inner);
  count.bytes = 4.0 * static_cast<double>(rows * columns + rows * inner + columns * inner);
  return count;
}

std::vector<OpCount> Products(const OpSpeed& speed, double noise) {
  std::vector<OpCount> samples;
  Noise factor(noise);
  for (const int64_t rows : {4, 16, 64, 512, 4096}) {
    for (const int64_t columns : {8, 64, 256, 2048}) {
      for (const int64_t inner : {8, 64, 512, 2048}) {
        OpCount count = ProductOf(rows, columns, inner);
        count.seconds = OpSeconds(speed, kPeak, count) * factor();
        samples.push_back(count);
      }
    }
  }
  return samples;
}

TEST(CalibrationTest, TheModelIsWhatTheProtoSays) {
  const OpSpeed speed = Known();
  const OpCount count = ProductOf(6, 40, 90);  // each at half speed; few bytes
  EXPECT_NEAR(OpSeconds(speed, kPeak, count), 12e-6 + count.flops / (kPeak * 0.8 / 8), 1e-12);
  OpCount bytes;
  bytes.bytes = 5e9;
  EXPECT_NEAR(OpSeconds(speed, kPeak, bytes), 1 + 12e-6, 1e-12);
  const OpCount half = PerDevice(count, 2);
  EXPECT_EQ(half.flops, count.flops / 2);
  EXPECT_EQ(half.bytes, count.bytes / 2);
  EXPECT_EQ(half.product, count.product);
}

TEST(CalibrationTest, FindsTheSpeedOfProducts) {
  const OpSpeed known = Known();
  for (const double noise : {0.0, 0.03}) {
    const OpSpeed found = FitProducts(Products(known, noise), kPeak, kBandwidth);
    const double tolerance = 0.01 + 3 * noise;
    EXPECT_NEAR(found.overhead_us() / known.overhead_us(), 1, tolerance) << found.ShortDebugString();
    EXPECT_NEAR(found.efficiency() / known.efficiency(), 1, tolerance);
    EXPECT_NEAR(found.half_rows() / known.half_rows(), 1, tolerance);
    EXPECT_NEAR(found.half_columns() / known.half_columns(), 1, tolerance);
    EXPECT_NEAR(found.half_inner() / known.half_inner(), 1, tolerance);
    EXPECT_NEAR(found.gbytes_per_second() / known.gbytes_per_second(), 1, tolerance);
    // And what it is for: times of sizes that it has not seen.
    const OpCount unseen = ProductOf(300, 1000, 100);
    EXPECT_NEAR(OpSeconds(found, kPeak, unseen) / OpSeconds(known, kPeak, unseen), 1, 0.01 + noise);
  }
}

TEST(CalibrationTest, FindsFlopsBytesAndLinks) {
  std::vector<OpCount> attention, add;
  std::vector<std::pair<double, double>> messages;
  Noise factor(0.03);
  for (double size = 1e3; size < 1e9; size *= 3) {
    OpCount count;
    count.flops = count.bytes = size;
    count.seconds = (3e-6 + size / (0.2 * kPeak)) * factor();
    count.bytes = 0;
    attention.push_back(count);
    // Of short sequences, where reading takes longer than computing.
    count.bytes = size;
    count.seconds = (3e-6 + size / 6e9) * factor();
    attention.push_back(count);
    count.seconds = (2e-6 + size / 7e9) * factor();
    add.push_back(count);
    messages.emplace_back(size, (40e-6 + size / 3e9) * factor());
  }
  const OpSpeed flops = FitFlops(attention, kPeak, kBandwidth), bytes = FitBytes(add);
  EXPECT_NEAR(flops.overhead_us(), 3, 0.15);
  EXPECT_NEAR(flops.efficiency(), 0.2, 0.01);
  EXPECT_NEAR(flops.gbytes_per_second(), 6, 0.3);
  EXPECT_NEAR(bytes.overhead_us(), 2, 0.1);
  EXPECT_NEAR(bytes.gbytes_per_second(), 7, 0.35);
  EXPECT_EQ(bytes.efficiency(), 0);
  const Link link = FitLink(messages);
  EXPECT_NEAR(link.latency_us(), 40, 2);
  EXPECT_NEAR(link.gbytes_per_second(), 3, 0.15);
}

TEST(CalibrationTest, ErrorsCountBothWays) {
  OpSpeed speed;
  speed.set_gbytes_per_second(1);
  std::vector<OpCount> samples(3);
  for (OpCount& sample : samples) sample.bytes = 1e9;
  samples[0].seconds = 1;
  samples[1].seconds = 0.8;  // the model is a quarter too long
  samples[2].seconds = 1.5;  // and here a half too short
  const FitErrors errors = ErrorsOf(speed, 1, samples);
  EXPECT_NEAR(errors.median, 0.25, 1e-9);
  EXPECT_NEAR(errors.worst, 0.5, 1e-9);
  EXPECT_EQ(errors.worst_sample, 2u);
}

TEST(CalibrationTest, FourDigitsAreFour) {
  EXPECT_EQ(FourDigits(0.123456), 0.1235);
  EXPECT_EQ(FourDigits(98765.4), 98770);
  EXPECT_EQ(FourDigits(0), 0);
}

}  // namespace
}  // namespace trefoil
