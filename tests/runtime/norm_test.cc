#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

constexpr float kEpsilon = 1e-5f;
const Shape kShapes[] = {{3, 5}, {1, 64}, {37, 96}, {130, 33}, {2, 1}, {0, 8}};

struct Norm {
  Values y, mean, rstd;
};

Norm Reference(bool center, int64_t rows, int64_t columns, const Values& x, const Values& weight, const Values& bias) {
  Norm norm;
  for (int64_t i = 0; i < rows; ++i) {
    double mean = 0, squares = 0;
    for (int64_t j = 0; center && j < columns; ++j) mean += x[i * columns + j] / static_cast<double>(columns);
    for (int64_t j = 0; j < columns; ++j)
      squares += std::pow(x[i * columns + j] - mean, 2) / static_cast<double>(columns);
    norm.mean.push_back(mean);
    norm.rstd.push_back(1 / std::sqrt(squares + kEpsilon));
    for (int64_t j = 0; j < columns; ++j) {
      norm.y.push_back((x[i * columns + j] - mean) * norm.rstd.back() * weight[j] + (center ? bias[j] : 0));
    }
  }
  return norm;
}

struct Gradients {
  Values dx, d_weight, d_bias;
};

// From the definition: y depends on x directly, through the mean and through rstd.
Gradients ReferenceBackward(bool center, int64_t rows, int64_t columns, const Values& dy, const Values& x,
                            const Values& weight, const Norm& norm, const Values& residual) {
  Gradients g = {residual.empty() ? Values(rows * columns) : residual, Values(columns), Values(columns)};
  const auto n = static_cast<double>(columns);
  for (int64_t i = 0; i < rows; ++i) {
    const double rstd = norm.rstd[i], mean = norm.mean[i];
    double d_rstd = 0, d_mean = 0;
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t at = i * columns + j;
      d_rstd += dy[at] * weight[j] * (x[at] - mean);
      g.d_weight[j] += dy[at] * (x[at] - mean) * rstd;
      g.d_bias[j] += dy[at];
    }
    for (int64_t j = 0; center && j < columns; ++j) {
      const int64_t at = i * columns + j;
      d_mean += -dy[at] * weight[j] * rstd + d_rstd * std::pow(rstd, 3) * (x[at] - mean) / n;
    }
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t at = i * columns + j;
      g.dx[at] += dy[at] * weight[j] * rstd - d_rstd * std::pow(rstd, 3) * (x[at] - mean) / n + d_mean / n;
    }
  }
  return g;
}

TEST_P(DTypes, LayerNorm) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape);
    const int64_t rows = shape[0], columns = shape[1];
    Norm reference;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor x = Random(device, GetParam(), shape, 1, 2, 3), w = Random(device, GetParam(), {columns}, 2);
      const Tensor b = Random(device, GetParam(), {columns}, 3), y = Poisoned(device, GetParam(), shape);
      const Tensor mean = Poisoned(device, DType::kFloat32, {rows}), rstd = Poisoned(device, DType::kFloat32, {rows});
      reference = Reference(true, rows, columns, Get(device, x), Get(device, w), Get(device, b));
      LayerNorm(device, x, w, b, kEpsilon, y, mean, rstd);
      return std::vector<Tensor>{y, mean, rstd};
    });
    if (columns == 1) continue;  // the variance is all rounding
    ExpectClose(results[0], reference.y, Tolerance(GetParam()), "y");
    ExpectClose(results[1], reference.mean, 3e-6, "mean");
    ExpectClose(results[2], reference.rstd, 3e-6, "rstd");
  }
}

TEST_P(DTypes, RmsNorm) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape);
    Norm reference;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor x = Random(device, GetParam(), shape, 1, 2, 1), w = Random(device, GetParam(), {shape[1]}, 2);
      const Tensor y = Poisoned(device, GetParam(), shape), rstd = Poisoned(device, DType::kFloat32, {shape[0]});
      reference = Reference(false, shape[0], shape[1], Get(device, x), Get(device, w), {});
      RmsNorm(device, x, w, kEpsilon, y, rstd);
      return std::vector<Tensor>{y, rstd};
    });
    ExpectClose(results[0], reference.y, Tolerance(GetParam()), "y");
    ExpectClose(results[1], reference.rstd, 3e-6, "rstd");
  }
}

// Heads among other columns, as rows of their own.
struct Heads {
  int64_t rows, before, heads, dim, behind;  // columns before and behind them
  int64_t columns() const { return before + heads * dim + behind; }
  int64_t At(int64_t row, int64_t i) const { return row * columns() + before + i; }
  Values Of(const Values& all) const {
    Values values;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < heads * dim; ++i) values.push_back(all[At(row, i)]);
    }
    return values;
  }
  // `all` with these in their places.
  Values With(Values all, const Values& values) const {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < heads * dim; ++i) all[At(row, i)] = values[row * heads * dim + i];
    }
    return all;
  }
};
const Heads kHeads[] = {{5, 8, 3, 8, 16}, {1, 0, 1, 64, 0}, {37, 3, 4, 6, 1}, {70, 128, 2, 128, 0}, {0, 0, 2, 4, 0}};

TEST_P(DTypes, HeadRmsNorm) {
  for (const Heads& h : kHeads) {
    for (const bool in_place : {false, true}) {
      SCOPED_TRACE(testing::Message() << h.rows << " rows of " << h.heads << " x " << h.dim << " in place " << in_place);
      Values expected, rstd_expected;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor x = Random(device, GetParam(), {h.rows, h.columns()}, 1, 2, 1);
        const Tensor w = Random(device, GetParam(), {h.dim}, 2);
        const Tensor y = in_place ? x : Random(device, GetParam(), {h.rows, h.columns()}, 3);
        const Tensor rstd = Poisoned(device, DType::kFloat32, {h.rows, h.heads});
        const Norm norm = Reference(false, h.rows * h.heads, h.dim, h.Of(Get(device, x)), Get(device, w), {});
        expected = h.With(Get(device, y), norm.y);
        rstd_expected = norm.rstd;
        HeadRmsNorm(device, {x, h.before}, h.heads, w, kEpsilon, {y, h.before}, rstd);
        return std::vector<Tensor>{y, rstd};
      });
      ExpectClose(results[0], expected, Tolerance(GetParam()), "y");
      ExpectClose(results[1], rstd_expected, 3e-6, "rstd");
    }
  }
}

enum class Target { kFresh, kFreshNoResidual, kResidual, kDy };

TEST_P(DTypes, NormBackward) {
  for (const bool center : {true, false}) {
    for (const Shape& shape : kShapes) {
      for (const Target target : {Target::kFresh, Target::kFreshNoResidual, Target::kResidual, Target::kDy}) {
        SCOPED_TRACE(testing::Message() << shape << " layer norm " << center << " dx is " << static_cast<int>(target));
        const int64_t rows = shape[0], columns = shape[1];
        if (columns == 1) continue;
        Gradients reference;
        const auto results = RunWithThreads([&](Device& device) {
          const DType dtype = GetParam();
          const Tensor x = Random(device, dtype, shape, 1, 2, 1), w = Random(device, dtype, {columns}, 2);
          const Tensor dy = Random(device, dtype, shape, 3), d_residual = Random(device, dtype, shape, 4);
          Norm norm = Reference(center, rows, columns, Get(device, x), Get(device, w), Values(columns));
          const Tensor mean = From(device, DType::kFloat32, {rows}, norm.mean);
          const Tensor rstd = From(device, DType::kFloat32, {rows}, norm.rstd);
          const Tensor dw = Random(device, DType::kFloat32, {columns}, 5),
                       db = Random(device, DType::kFloat32, {columns}, 6);
          const bool residual = target != Target::kFreshNoResidual;
          reference = ReferenceBackward(center, rows, columns, Get(device, dy), Get(device, x), Get(device, w), norm,
                                        residual ? Get(device, d_residual) : Values());
          const Values dw_before = Get(device, dw), db_before = Get(device, db);
          for (int64_t j = 0; j < columns; ++j) reference.d_weight[j] += dw_before[j];
          for (int64_t j = 0; j < columns; ++j) reference.d_bias[j] += db_before[j];
          const Tensor dx = target == Target::kResidual ? d_residual
                            : target == Target::kDy     ? dy
                                                        : Poisoned(device, dtype, shape);
          const Tensor add = residual ? d_residual : Tensor();
          if (center) {
            LayerNormBackward(device, dy, x, w, mean, rstd, add, dx, dw, db);
            return std::vector<Tensor>{dx, dw, db};
          }
          RmsNormBackward(device, dy, x, w, rstd, add, dx, dw);
          return std::vector<Tensor>{dx, dw};
        });
        ExpectClose(results[0], reference.dx, Tolerance(GetParam()), "dx");
        ExpectClose(results[1], reference.d_weight, 1e-5, "d_weight");
        if (center) ExpectClose(results[2], reference.d_bias, 1e-5, "d_bias");
      }
    }
  }
}

TEST_P(DTypes, HeadRmsNormBackward) {
  for (const Heads& h : kHeads) {
    for (const bool in_place : {false, true}) {
      SCOPED_TRACE(testing::Message() << h.rows << " rows of " << h.heads << " x " << h.dim << " in place " << in_place);
      // x lies in a tensor of its own shape.
      const Heads of_x = {h.rows, 2 * h.before, h.heads, h.dim, 0};
      Values expected, weight_expected;
      const auto results = RunWithThreads([&](Device& device) {
        const DType dtype = GetParam();
        const Tensor x = Random(device, dtype, {h.rows, of_x.columns()}, 1, 2, 1), w = Random(device, dtype, {h.dim}, 2);
        const Tensor dy = Random(device, dtype, {h.rows, h.columns()}, 3);
        const Tensor dx = in_place ? dy : Random(device, dtype, {h.rows, h.columns()}, 4);
        const Tensor dw = Random(device, DType::kFloat32, {h.dim}, 5);
        const int64_t rows = h.rows * h.heads;
        const Values x_values = of_x.Of(Get(device, x));
        Norm norm = Reference(false, rows, h.dim, x_values, Get(device, w), {});
        norm.mean.assign(static_cast<size_t>(rows), 0);
        const Tensor rstd = From(device, DType::kFloat32, {h.rows, h.heads}, norm.rstd);
        const Gradients g = ReferenceBackward(false, rows, h.dim, h.Of(Get(device, dy)), x_values, Get(device, w), norm, {});
        expected = h.With(Get(device, dx), g.dx);
        weight_expected = Get(device, dw);
        for (int64_t j = 0; j < h.dim; ++j) weight_expected[j] += g.d_weight[j];
        HeadRmsNormBackward(device, {dy, h.before}, {x, of_x.before}, h.heads, w, rstd, {dx, h.before}, dw);
        return std::vector<Tensor>{dx, dw};
      });
      ExpectClose(results[0], expected, Tolerance(GetParam()), "dx");
      ExpectClose(results[1], weight_expected, 1e-5, "d_weight");
    }
  }
}

TEST(Norm, BackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const int64_t rows = 5, columns = 19;
  const DType f = DType::kFloat32;
  for (const bool center : {true, false}) {
    const Tensor x = Random(*device, f, {rows, columns}, 1), w = Random(*device, f, {columns}, 2);
    const Tensor b = Random(*device, f, {columns}, 3), dy = Random(*device, f, {rows, columns}, 4);
    const Tensor y = Poisoned(*device, f, {rows, columns}), mean = Poisoned(*device, f, {rows});
    const Tensor rstd = Poisoned(*device, f, {rows}), dx = Poisoned(*device, f, {rows, columns});
    const Tensor dw = From(*device, f, {columns}, Values(columns, 0)),
                 db = From(*device, f, {columns}, Values(columns, 0));
    const auto loss = [&] {
      if (center) {
        LayerNorm(*device, x, w, b, kEpsilon, y, mean, rstd);
      } else {
        RmsNorm(*device, x, w, kEpsilon, y, rstd);
      }
      return Dot(Get(*device, y), Get(*device, dy));
    };
    loss();
    if (center) {
      LayerNormBackward(*device, dy, x, w, mean, rstd, {}, dx, dw, db);
      ExpectGradient(*device, b, loss, Get(*device, db), "d_bias");
    } else {
      RmsNormBackward(*device, dy, x, w, rstd, {}, dx, dw);
    }
    ExpectGradient(*device, x, loss, Get(*device, dx), "dx");
    ExpectGradient(*device, w, loss, Get(*device, dw), "d_weight");
  }
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
