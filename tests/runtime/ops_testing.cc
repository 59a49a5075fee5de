#include "tests/runtime/ops_testing.h"

#include <algorithm>
#include <limits>
#include <random>

namespace trefoil {
namespace {

// Another seed for every TestSeed(); itself with 0.
uint64_t Mixed(uint64_t seed) { return seed + TestSeed() * 0x9e3779b97f4a7c15; }

}  // namespace

Tensor From(Device& device, DType dtype, const Shape& shape, const Values& values) {
  EXPECT_EQ(shape.elements(), static_cast<int64_t>(values.size()));
  const Tensor x = device.Allocate(dtype, shape, Purpose::kActivations);
  if (dtype == DType::kFloat32) {
    const std::vector<float> host(values.begin(), values.end());
    device.Upload(host.data(), x);
  } else {
    std::vector<BFloat16> host;
    for (const double value : values) host.emplace_back(static_cast<float>(value));
    device.Upload(host.data(), x);
  }
  return x;
}

Tensor Random(Device& device, DType dtype, const Shape& shape, uint64_t seed, float deviation, float mean) {
  std::mt19937_64 engine(Mixed(seed * 7919 + 1));
  std::normal_distribution<double> normal(mean, deviation);
  Values values(shape.elements());
  for (double& value : values) value = normal(engine);
  return From(device, dtype, shape, values);
}

Tensor Ids(Device& device, const std::vector<int32_t>& ids) {
  const Tensor x = device.Allocate(DType::kInt32, {static_cast<int64_t>(ids.size())}, Purpose::kActivations);
  device.Upload(ids.data(), x);
  return x;
}

Tensor RandomIds(Device& device, int64_t n, uint64_t seed, int low, int high) {
  std::mt19937_64 engine(Mixed(seed + 17));
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = std::uniform_int_distribution<int>(low, high - 1)(engine);
  return Ids(device, ids);
}

Tensor Poisoned(Device& device, DType dtype, const Shape& shape) {
  return From(device, dtype, shape, Values(shape.elements(), std::numeric_limits<double>::quiet_NaN()));
}

Tensor Clone(Device& device, const Tensor& x) {
  const Tensor copy = device.Allocate(x.dtype(), x.shape(), Purpose::kActivations);
  device.Upload(Bits(device, x).data(), copy);
  return copy;
}

std::vector<char> Bits(Device& device, const Tensor& x) {
  std::vector<char> bits(x.bytes());
  device.Download(x, bits.data());
  return bits;
}

namespace {

template <typename T>
Values GetAs(Device& device, const Tensor& x) {
  std::vector<T> host(x.elements());
  device.Download(x, host.data());
  Values values;
  for (const T value : host) values.push_back(static_cast<float>(value));
  return values;
}

}  // namespace

Values Get(Device& device, const Tensor& x) {
  switch (x.dtype()) {
    case DType::kFloat32:
      return GetAs<float>(device, x);
    case DType::kBFloat16:
      return GetAs<BFloat16>(device, x);
    case DType::kFloat8E4M3:
      return GetAs<Float8E4M3>(device, x);
    case DType::kFloat8E5M2:
      return GetAs<Float8E5M2>(device, x);
    case DType::kInt32:
      break;
  }
  std::vector<int32_t> host(x.elements());
  device.Download(x, host.data());
  return Values(host.begin(), host.end());
}

double Dot(const Values& a, const Values& b) {
  EXPECT_EQ(a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) sum += a[i] * b[i];
  return sum;
}

double Tolerance(DType dtype) { return dtype == DType::kFloat32 ? 3e-6 : 8e-3; }
double ToleranceOfInputs(double usual, double widest) { return TestSeed() == 0 ? usual : widest; }

void ExpectClose(const Values& values, const Values& reference, double tolerance, const char* what) {
  ASSERT_EQ(values.size(), reference.size()) << what;
  if (values.empty()) return;
  const double scale = std::sqrt(Dot(reference, reference) / static_cast<double>(reference.size()));
  size_t worst = 0;
  double worst_error = -1;
  for (size_t i = 0; i < values.size(); ++i) {
    const double limit = tolerance * (std::abs(reference[i]) + scale) + 1e-30;
    double error = values[i] == reference[i] ? 0 : std::abs(values[i] - reference[i]) / limit;
    if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
    if (error > worst_error) {
      worst_error = error;
      worst = i;
    }
  }
  EXPECT_LE(worst_error, 1) << what << "[" << worst << "] of " << values.size() << " is " << values[worst]
                            << ", must be " << reference[worst] << "; error in units of the tolerance " << tolerance;
}

namespace {

// The values of what `op` gives on the first device; expects the same bits on the others.
std::vector<Values> RunOnEach(const std::vector<std::unique_ptr<Device>>& devices,
                              const std::function<std::vector<Tensor>(Device&)>& op) {
  std::vector<Values> values;
  std::vector<std::vector<char>> bits;
  for (const std::unique_ptr<Device>& device : devices) {
    const std::vector<Tensor> results = op(*device);
    for (size_t i = 0; i < results.size(); ++i) {
      if (device == devices[0]) {
        values.push_back(Get(*device, results[i]));
        bits.push_back(Bits(*device, results[i]));
      } else {
        EXPECT_TRUE(bits[i] == Bits(*device, results[i]))
            << "result " << i << " changes on " << device->name() << " with " << device->threads() << " threads";
      }
    }
  }
  return values;
}

}  // namespace

std::vector<Values> RunWithThreads(const std::function<std::vector<Tensor>(Device&)>& op) {
  if (!OnGpu()) return RunWithCpuThreads(op);
  std::vector<std::unique_ptr<Device>> devices;
  for (int run = 0; run < (RunsRepeat() ? 2 : 1); ++run) devices.push_back(NewTestDevice());
  return RunOnEach(devices, op);
}

std::vector<Values> RunWithCpuThreads(const std::function<std::vector<Tensor>(Device&)>& op) {
  std::vector<std::unique_ptr<Device>> devices;
  for (const int threads : {1, 2, 3}) devices.push_back(NewCpuDevice(threads));
  return RunOnEach(devices, op);
}

void ExpectGradient(Device& device, const Tensor& x, const std::function<double()>& loss, const Values& gradient,
                    const char* what, int samples, double step, double tolerance) {
  const Values start = Get(device, x);
  ASSERT_EQ(start.size(), gradient.size()) << what;
  if (start.empty()) return;
  const double scale = std::sqrt(Dot(gradient, gradient) / static_cast<double>(gradient.size()));
  ASSERT_GT(scale, 0) << what;
  std::mt19937_64 engine(Mixed(5));
  const auto derivative = [&](const Values& direction) {
    double losses[2];
    for (const int side : {0, 1}) {
      std::vector<float> moved(start.size());
      for (size_t i = 0; i < start.size(); ++i) {
        moved[i] = static_cast<float>(start[i] + (side == 0 ? -step : step) * direction[i]);
      }
      device.Upload(moved.data(), x);
      losses[side] = loss();
    }
    const std::vector<float> back(start.begin(), start.end());
    device.Upload(back.data(), x);
    return (losses[1] - losses[0]) / (2 * step);
  };
  for (int i = 0; i < samples; ++i) {
    const size_t at = std::uniform_int_distribution<size_t>(0, start.size() - 1)(engine);
    Values direction(start.size());
    direction[at] = 1;
    EXPECT_NEAR(derivative(direction), gradient[at], tolerance * (std::abs(gradient[at]) + scale))
        << what << "[" << at << "]";
  }
  Values direction(start.size());
  std::normal_distribution<double> normal(0, 1 / std::sqrt(static_cast<double>(start.size())));
  for (double& value : direction) value = normal(engine);
  EXPECT_NEAR(derivative(direction), Dot(gradient, direction), 2 * tolerance * scale) << what << ", along a direction";
}

}  // namespace trefoil
