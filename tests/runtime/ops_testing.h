// What the tests of ops share: random tensors, values as doubles, comparison with a reference, finite differences.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/device.h"
#include "runtime/ops.h"
#include "tests/runtime/test_device.h"

namespace trefoil {

using Values = std::vector<double>;

// Values of a normal distribution, rounded to the dtype. These and the next change with TestSeed().
Tensor Random(Device& device, DType dtype, const Shape& shape, uint64_t seed, float deviation = 1, float mean = 0);
// int32, uniform in [low, high).
Tensor RandomIds(Device& device, int64_t n, uint64_t seed, int low, int high);
// NaN everywhere: for outputs that must be overwritten.
Tensor Poisoned(Device& device, DType dtype, const Shape& shape);
Tensor From(Device& device, DType dtype, const Shape& shape, const Values& values);
Tensor Ids(Device& device, const std::vector<int32_t>& ids);
Tensor Clone(Device& device, const Tensor& x);

Values Get(Device& device, const Tensor& x);
std::vector<char> Bits(Device& device, const Tensor& x);

// |value - reference| <= tolerance * (|reference| + root mean square of the reference), everywhere. NaN never passes.
void ExpectClose(const Values& values, const Values& reference, double tolerance, const char* what = "");
// A tolerance for results of `dtype`: bf16 keeps 8 bits.
double Tolerance(DType dtype);
// `usual` for the inputs that the tests have by themselves; `widest` where TREFOIL_TEST_SEED draws others, some of which
// cancel more than those.
double ToleranceOfInputs(double usual, double widest);

// Calls `op` on CPU devices of one, two and three threads, expects the same bits of every tensor that it returns, and
// returns their values. On the GPU, calls it twice and expects the same bits both times if RunsRepeat().
std::vector<Values> RunWithThreads(const std::function<std::vector<Tensor>(Device&)>& op);
// The same, on the CPU wherever other tests run: for ops that are the CPU's own.
std::vector<Values> RunWithCpuThreads(const std::function<std::vector<Tensor>(Device&)>& op);

// Compares the gradient of `loss` with respect to the float32 tensor x with central differences: at up to `samples`
// elements and along one random direction. `loss` reads x's current content.
void ExpectGradient(Device& device, const Tensor& x, const std::function<double()>& loss, const Values& gradient,
                    const char* what, int samples = 12, double step = 1e-2, double tolerance = 4e-3);

double Dot(const Values& a, const Values& b);

class DTypes : public testing::TestWithParam<DType> {};
#define INSTANTIATE_DTYPES()                                                             \
  INSTANTIATE_TEST_SUITE_P(, DTypes, testing::Values(DType::kFloat32, DType::kBFloat16), \
                           [](const auto& info) { return std::string(Name(info.param)); })

}  // namespace trefoil
