// Products with what is fused to them. On the CPU, and with activation functions that the GPU's library has not, they
// are put together from kernels with tests of their own, so that what is tested here is what goes where; on a GPU it is
// the library's epilogues.
#include <array>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

constexpr double kSqrt2OverPi = 0.79788456080286536;

double GeluOf(double x) { return 0.5 * x * (1 + std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x))); }
double GeluSlope(double x) {
  const double t = std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kSqrt2OverPi * (1 + 3 * 0.044715 * x * x);
}

double ReluOf(double x) { return x > 0 ? x : 0; }
double ReluSlope(double x) { return x > 0 ? 1 : 0; }

// The one that the library has, and another.
struct Function {
  Activation activation;
  const char* name;
  double (*value)(double);
  double (*slope)(double);
};
constexpr Function kFunctions[] = {{Activation::kGelu, "gelu", GeluOf, GeluSlope},
                                   {Activation::kRelu, "relu", ReluOf, ReluSlope}};

// a [m, k] b [k, n], where a's element (i, l) is a[i * a_row + l * a_column], and b's likewise.
Values Multiply(int64_t m, int64_t n, int64_t k, const Values& a, int64_t a_row, int64_t a_column, const Values& b,
                int64_t b_row, int64_t b_column) {
  Values out(m * n);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t l = 0; l < k; ++l) {
        out[i * n + j] += a[i * a_row + l * a_column] * b[l * b_row + j * b_column];
      }
    }
  }
  return out;
}

Values PlusColumnSums(Values start, const Values& x) {
  for (size_t i = 0; i < x.size(); ++i) start[i % start.size()] += x[i];
  return start;
}

// The GPU's library may add all of a long inner dim into one float.
double ToleranceHere(DType dtype) { return OnGpu() && dtype == DType::kFloat32 ? 1e-5 : Tolerance(dtype); }

using Sizes = std::array<int64_t, 3>;  // m, n, k
constexpr Sizes kSizes[] = {{5, 7, 3},    {33, 17, 65}, {64, 48, 96}, {1, 19, 31}, {19, 1, 8},
                            {40, 24, 16}, {0, 4, 3},    {4, 0, 3},    {4, 5, 0},   {0, 0, 0}};

TEST_P(DTypes, MatmulActivate) {
  for (const Function& function : kFunctions) {
    for (const auto& [m, n, k] : kSizes) {
      for (const bool with_bias : {false, true}) {
        SCOPED_TRACE(testing::Message() << function.name << " m " << m << " n " << n << " k " << k << " bias "
                                        << with_bias);
        Values before_reference, reference;
        const auto& [m_, n_, k_] = std::tie(m, n, k);
        const auto results = RunWithThreads([&](Device& device) {
          const Tensor a = Random(device, GetParam(), {m_, k_}, 1), b = Random(device, GetParam(), {n_, k_}, 2);
          const Tensor bias = with_bias ? Random(device, GetParam(), {n_}, 3) : Tensor();
          const Tensor before = Poisoned(device, GetParam(), {m_, n_}), out = Poisoned(device, GetParam(), {m_, n_});
          before_reference = Multiply(m_, n_, k_, Get(device, a), k_, 1, Get(device, b), 1, k_);
          const Values added = with_bias ? Get(device, bias) : Values(n_);
          reference.clear();
          for (size_t i = 0; i < before_reference.size(); ++i) {
            before_reference[i] += added[i % n_];
            reference.push_back(function.value(before_reference[i]));
          }
          MatmulActivate(device, function.activation, a, b, bias, before, out);
          return std::vector<Tensor>{before, out};
        });
        ExpectClose(results[0], before_reference, ToleranceHere(GetParam()), "before");
        ExpectClose(results[1], reference, ToleranceHere(GetParam()), "out");
      }
    }
  }
}

TEST_P(DTypes, MatmulActivateBackward) {
  for (const Function& function : kFunctions) {
    for (const auto& [m, n, k] : kSizes) {
      for (const bool with_bias : {false, true}) {
        SCOPED_TRACE(testing::Message() << function.name << " m " << m << " n " << n << " k " << k << " bias "
                                        << with_bias);
        Values reference, bias_reference;
        const auto& [m_, n_, k_] = std::tie(m, n, k);
        const auto results = RunWithThreads([&](Device& device) {
          const Tensor dy = Random(device, GetParam(), {m_, k_}, 1), weight = Random(device, GetParam(), {k_, n_}, 2);
          const Tensor before = Random(device, GetParam(), {m_, n_}, 3);
          const Tensor dx = Poisoned(device, GetParam(), {m_, n_});
          const Tensor d_bias = with_bias ? Random(device, DType::kFloat32, {n_}, 4, 1, 10) : Tensor();
          reference = Multiply(m_, n_, k_, Get(device, dy), k_, 1, Get(device, weight), n_, 1);
          const Values x = Get(device, before);
          for (size_t i = 0; i < x.size(); ++i) reference[i] *= function.slope(x[i]);
          if (with_bias) bias_reference = PlusColumnSums(Get(device, d_bias), reference);
          MatmulActivateBackward(device, function.activation, dy, weight, before, dx, d_bias);
          return with_bias ? std::vector<Tensor>{dx, d_bias} : std::vector<Tensor>{dx};
        });
        ExpectClose(results[0], reference, ToleranceHere(GetParam()), "dx");
        // The sums are of, or are, values in dx's dtype.
        if (with_bias) {
          ExpectClose(results[1], bias_reference, ToleranceOfInputs(1, 10) * ToleranceHere(GetParam()), "d_bias");
        }
      }
    }
  }
}

TEST_P(DTypes, WeightGradient) {
  for (const auto& [m, n, k] : kSizes) {
    for (const bool with_bias : {false, true}) {
      SCOPED_TRACE(testing::Message() << "m " << m << " n " << n << " k " << k << " bias " << with_bias);
      Values reference, bias_reference;
      const auto& [m_, n_, k_] = std::tie(m, n, k);
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor dy = Random(device, GetParam(), {m_, n_}, 1), x = Random(device, GetParam(), {m_, k_}, 2);
        const Tensor d_weight = Random(device, DType::kFloat32, {n_, k_}, 3, 1, 10);
        const Tensor d_bias = with_bias ? Random(device, DType::kFloat32, {n_}, 4, 1, 10) : Tensor();
        const Values start = Get(device, d_weight);
        reference = Multiply(n_, k_, m_, Get(device, dy), 1, n_, Get(device, x), k_, 1);
        for (size_t i = 0; i < start.size(); ++i) reference[i] += start[i];
        if (with_bias) bias_reference = PlusColumnSums(Get(device, d_bias), Get(device, dy));
        WeightGradient(device, dy, x, d_weight, d_bias);
        return with_bias ? std::vector<Tensor>{d_weight, d_bias} : std::vector<Tensor>{d_weight};
      });
      ExpectClose(results[0], reference, ToleranceHere(DType::kFloat32), "d_weight");
      if (with_bias) ExpectClose(results[1], bias_reference, ToleranceHere(DType::kFloat32), "d_bias");
    }
  }
}

// y = activation(x w^T + b) v^T + c: every gradient, against finite differences.
TEST(FusedMatmul, BackwardOfTwoLayers) {
  const std::unique_ptr<Device> device = NewTestDevice();
  constexpr DType kFloat = DType::kFloat32;
  const int64_t rows = 6, in = 5, hidden = 8, out = 7;
  const Tensor x = Random(*device, kFloat, {rows, in}, 1), w = Random(*device, kFloat, {hidden, in}, 2, 0.5f);
  const Tensor b = Random(*device, kFloat, {hidden}, 3), v = Random(*device, kFloat, {out, hidden}, 4);
  const Tensor c = Random(*device, kFloat, {out}, 5), dy = Random(*device, kFloat, {rows, out}, 6);
  const Tensor before = Poisoned(*device, kFloat, {rows, hidden}), a = Poisoned(*device, kFloat, {rows, hidden});
  const Tensor y = Poisoned(*device, kFloat, {rows, out}), dx = Poisoned(*device, kFloat, {rows, in});
  const Tensor d_before = Poisoned(*device, kFloat, {rows, hidden});
  const auto zeros = [&](const Shape& shape) { return From(*device, kFloat, shape, Values(shape.elements(), 0)); };
  for (const Activation activation : {Activation::kGelu, Activation::kGeluErf, Activation::kSilu, Activation::kTanh}) {
    SCOPED_TRACE(static_cast<int>(activation));
    const Tensor dw = zeros({hidden, in}), db = zeros({hidden}), dv = zeros({out, hidden}), dc = zeros({out});
    const auto loss = [&] {
      MatmulActivate(*device, activation, x, w, b, before, a);
      Matmul(*device, a, Transpose::kNo, v, Transpose::kYes, y, Accumulate::kNo, c);
      return Dot(Get(*device, y), Get(*device, dy));
    };
    loss();
    WeightGradient(*device, dy, a, dv, dc);
    MatmulActivateBackward(*device, activation, dy, v, before, d_before, db);
    WeightGradient(*device, d_before, x, dw, Tensor());
    Matmul(*device, d_before, Transpose::kNo, w, Transpose::kNo, dx);
    ExpectGradient(*device, x, loss, Get(*device, dx), "dx");
    ExpectGradient(*device, w, loss, Get(*device, dw), "dw");
    ExpectGradient(*device, b, loss, Get(*device, db), "db");
    ExpectGradient(*device, v, loss, Get(*device, dv), "dv");
    ExpectGradient(*device, c, loss, Get(*device, dc), "dc");
  }
}

TEST(FusedMatmulDeathTest, RefusesWrongShapes) {
  const std::unique_ptr<Device> device = NewNullDevice();
  const auto make = [&](Shape shape) { return device->Allocate(DType::kFloat32, shape, Purpose::kActivations); };
  const Tensor x = make({2, 3}), w = make({4, 3}), y = make({2, 4});
  EXPECT_DEATH(MatmulActivate(*device, Activation::kGelu, x, make({3, 4}), {}, y, y), "b is .3, 4., must be .3, 3.");
  EXPECT_DEATH(MatmulActivate(*device, Activation::kGelu, x, w, make({3}), y, y), "bias is .3., must be .4.");
  EXPECT_DEATH(MatmulActivateBackward(*device, Activation::kGelu, y, w, y, x, {}), "before is .2, 4., must be .2, 3.");
  EXPECT_DEATH(WeightGradient(*device, y, x, w, make({3})), "d_bias is .3., must be .4.");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
