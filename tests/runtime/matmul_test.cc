#include "runtime/kernels/cpu/cpu.h"
#include "runtime/kernels/cpu/gemm_tile.h"
#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

struct Product {
  int64_t m, n, k;
  Transpose ta, tb;
  Accumulate accumulate;
  bool bias;
  DType out;
};

// op(a) op(b) + bias + (out before, if it accumulates)
Values Reference(const Product& p, const Values& a, const Values& b, const Values& bias, const Values& before) {
  Values out(p.m * p.n);
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      double sum = p.bias ? bias[j] : 0;
      if (p.accumulate == Accumulate::kYes) sum += before[i * p.n + j];
      for (int64_t l = 0; l < p.k; ++l) {
        sum += a[p.ta == Transpose::kYes ? l * p.m + i : i * p.k + l] *
               b[p.tb == Transpose::kYes ? j * p.k + l : l * p.n + j];
      }
      out[i * p.n + j] = sum;
    }
  }
  return out;
}

void Compare(const Product& p, DType dtype) {
  SCOPED_TRACE(testing::Message() << Name(dtype) << " m " << p.m << " n " << p.n << " k " << p.k << " transposes "
                                  << static_cast<bool>(p.ta) << static_cast<bool>(p.tb) << " accumulate "
                                  << static_cast<bool>(p.accumulate) << " bias " << p.bias << " out " << Name(p.out));
  Values reference;
  const auto results = RunWithThreads([&](Device& device) {
    const Tensor a = Random(device, dtype, p.ta == Transpose::kYes ? Shape{p.k, p.m} : Shape{p.m, p.k}, 1);
    const Tensor b = Random(device, dtype, p.tb == Transpose::kYes ? Shape{p.n, p.k} : Shape{p.k, p.n}, 2);
    const Tensor bias = p.bias ? Random(device, dtype, {p.n}, 3) : Tensor();
    const Tensor out =
        p.accumulate == Accumulate::kYes ? Random(device, p.out, {p.m, p.n}, 4) : Poisoned(device, p.out, {p.m, p.n});
    if (reference.empty()) {
      reference = Reference(p, Get(device, a), Get(device, b), p.bias ? Get(device, bias) : Values(), Get(device, out));
    }
    Matmul(device, a, p.ta, b, p.tb, out, p.accumulate, bias);
    return std::vector<Tensor>{out};
  });
  // The GPU's library may add all of a long inner dim into one float; the CPU's kernels add it in blocks.
  ExpectClose(results[0], reference, OnGpu() && p.out == DType::kFloat32 ? 1e-5 : Tolerance(p.out));
}

constexpr Transpose kTransposes[] = {Transpose::kNo, Transpose::kYes};

TEST_P(DTypes, MatmulOfEveryKind) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{5, 7, 3}, {33, 17, 65}, {64, 48, 96}, {1, 19, 31}, {19, 1, 8}}) {
    for (const Transpose ta : kTransposes) {
      for (const Transpose tb : kTransposes) {
        for (const bool bias : {false, true}) {
          Compare({m, n, k, ta, tb, Accumulate::kNo, bias, GetParam()}, GetParam());
          Compare({m, n, k, ta, tb, Accumulate::kNo, bias, DType::kFloat32}, GetParam());
          Compare({m, n, k, ta, tb, Accumulate::kYes, bias, DType::kFloat32}, GetParam());
        }
      }
    }
  }
}

TEST_P(DTypes, MatmulOfEmptyMatrices) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{0, 4, 3}, {4, 0, 3}, {4, 5, 0}, {0, 0, 0}, {1, 1, 1}}) {
    for (const bool bias : {false, true}) {
      Compare({m, n, k, Transpose::kNo, Transpose::kYes, Accumulate::kNo, bias, GetParam()}, GetParam());
      Compare({m, n, k, Transpose::kNo, Transpose::kYes, Accumulate::kYes, bias, DType::kFloat32}, GetParam());
    }
  }
}

// Long inner dims and few rows tempt a library to split the sum over threads.
TEST_P(DTypes, MatmulDoesNotDependOnThreads) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{8, 8, 4096},
                                {3, 200, 900},
                                {200, 3, 900},
                                {1, 64, 3000},
                                {64, 1, 3000},
                                {96, 80, 1024},
                                {2, 2, 8192},
                                {128, 128, 513},
                                {300, 16, 300}}) {
    Compare({m, n, k, Transpose::kNo, Transpose::kYes, Accumulate::kNo, false, GetParam()}, GetParam());
    Compare({m, n, k, Transpose::kYes, Transpose::kNo, Accumulate::kYes, false, DType::kFloat32}, GetParam());
  }
}

// What lets ranks that hold rows or columns of a product agree with one that holds all of it, and products of many
// blocks with those of few. The CPU's promise: the GPU's library chooses by shape how it adds.
TEST(Matmul, SliceOfTheProductIsTheProductOfTheSlicesToTheBit) {
  for (const auto& [m, n, k, threads] :
       {std::array<int64_t, 4>{130, 100, 700, 2}, {450, 300, 300, 1}, {1400, 1700, 300, 1}}) {
    for (const auto& [dtype, products] : {std::pair(DType::kFloat32, Bf16Products::kNative),
                                          {DType::kBFloat16, Bf16Products::kNative},
                                          {DType::kBFloat16, Bf16Products::kFloat32}}) {
      const std::unique_ptr<Device> device = NewCpuDevice(static_cast<int>(threads), products);
      const Tensor a = Random(*device, dtype, {m, k}, 1), b = Random(*device, dtype, {n, k}, 2);
      const Tensor whole = Poisoned(*device, dtype, {m, n});
      Matmul(*device, a, Transpose::kNo, b, Transpose::kYes, whole);
      const Values values = Get(*device, whole);
      for (const auto& [row, rows, column, columns] : {std::array<int64_t, 4>{0, 65, 0, 100},
                                                       {65, 65, 50, 50},
                                                       {7, 1, 3, 1},
                                                       {5, 1, 0, n},
                                                       {11, 2, 1, n - 1},
                                                       {20, 3, 9, 30},
                                                       {31, 4, 2, 77},
                                                       {0, 9, n - 99, 99},
                                                       {m - 90, 90, 0, n}}) {
        const Tensor part = Poisoned(*device, dtype, {rows, columns});
        Matmul(*device, a.Rows(row, row + rows), Transpose::kNo, b.Rows(column, column + columns), Transpose::kYes,
               part);
        const Values some = Get(*device, part);
        for (int64_t i = 0; i < rows * columns; ++i) {
          ASSERT_EQ(some[i], values[(row + i / columns) * n + column + i % columns]) << Name(dtype) << " m " << m;
        }
      }
    }
  }
}

void WidePanels(const float* a, const float* b, int64_t m, int64_t n, int64_t k, float* c, int64_t ldc, bool add,
                const float* bias) {
  cpu::MultiplyPanels<cpu::Vector512, 12, 2>(a, b, m, n, k, c, ldc, add, bias);
}
void WideBlock(int64_t m, int64_t n, int64_t k, const cpu::GemmA& a, const float* b, int64_t ldb, float* c, int64_t ldc,
               bool add) {
  cpu::MultiplyBlock<cpu::Vector512, 12, 2>(m, n, k, a, b, ldb, c, ldc, add);
}
const cpu::GemmKernel kWide = {12, 32, WidePanels, WideBlock};

// The tile of CPUs with AVX-512, compiled here for any CPU, adds in the same order as the narrow one.
TEST(Matmul, WideTileGivesTheSameBits) {
  const std::unique_ptr<Device> device = NewCpuDevice(1);
  const cpu::CpuContext context = {&device->arena(), 1, &kWide};
  for (const auto& [m, n, k] :
       {std::array<int64_t, 3>{1, 1, 1}, {12, 32, 5}, {13, 33, 300}, {230, 75, 270}, {11, 1600, 40}}) {
    for (const DType out_dtype : {DType::kFloat32, DType::kBFloat16}) {
      for (const Transpose ta : kTransposes) {
        for (const Transpose tb : kTransposes) {
          const bool at = ta == Transpose::kYes, bt = tb == Transpose::kYes;
          const Tensor a = Random(*device, out_dtype, at ? Shape{k, m} : Shape{m, k}, 1);
          const Tensor b = Random(*device, out_dtype, bt ? Shape{n, k} : Shape{k, n}, 2);
          const Tensor bias = Random(*device, out_dtype, {n}, 3);
          const Tensor wide = Poisoned(*device, out_dtype, {m, n}), narrow = Poisoned(*device, out_dtype, {m, n});
          cpu::Gemm(context, kWide, a, ta, b, tb, wide, Accumulate::kNo, bias);
          cpu::Gemm(context, cpu::Avx2GemmKernel(), a, ta, b, tb, narrow, Accumulate::kNo, bias);
          EXPECT_EQ(Bits(*device, wide), Bits(*device, narrow)) << m << " " << n << " " << k << " " << at << bt;
        }
      }
    }
  }
}

// Small blocks, at every count of rows that a tile may leave over.
TEST(Matmul, BlocksOfEverySize) {
  const std::unique_ptr<Device> device = NewCpuDevice(1);
  const int64_t k = 9, ldb = 64, ldc = 80;
  for (const cpu::GemmKernel* kernel : {&kWide, &cpu::Avx2GemmKernel()}) {
    for (int64_t m = 0; m <= 27; ++m) {
      for (const int64_t n : {16, 32, 48}) {
        const Tensor a = Random(*device, DType::kFloat32, {m * k}, 1),
                     b = Random(*device, DType::kFloat32, {k, ldb}, 2);
        for (const bool transposed : {false, true}) {
          for (const bool add : {false, true}) {
            const Tensor c = Random(*device, DType::kFloat32, {m, ldc}, 3);
            Values reference = Get(*device, c);
            const Values x = Get(*device, a), y = Get(*device, b);
            const int64_t row_stride = transposed ? 1 : k, column_stride = transposed ? m : 1;
            for (int64_t i = 0; i < m; ++i) {
              for (int64_t j = 0; j < n; ++j) {
                double sum = add ? reference[i * ldc + j] : 0;
                for (int64_t l = 0; l < k; ++l) sum += x[i * row_stride + l * column_stride] * y[l * ldb + j];
                reference[i * ldc + j] = sum;
              }
            }
            kernel->block(m, n, k, {a.data<float>(), row_stride, column_stride}, b.data<float>(), ldb, c.data<float>(),
                          ldc, add);
            ExpectClose(Get(*device, c), reference, 3e-6);
          }
        }
      }
    }
  }
}

// The path of bf16 on CPUs that multiply it, taken in fp32, which oneDNN has everywhere.
TEST(Matmul, OneDnnInPieces) {
  for (const auto& [m, n, k] :
       {std::array<int64_t, 3>{1, 1, 1}, {64, 64, 8}, {300, 70, 33}, {129, 513, 20}, {70, 1000, 5}}) {
    for (const Transpose ta : kTransposes) {
      for (const Transpose tb : kTransposes) {
        for (const Accumulate accumulate : {Accumulate::kNo, Accumulate::kYes}) {
          const bool at = ta == Transpose::kYes, bt = tb == Transpose::kYes, add = accumulate == Accumulate::kYes;
          const Product p = {m, n, k, ta, tb, accumulate, !add, DType::kFloat32};
          const auto& [m_, n_, k_] = std::tie(m, n, k);
          Values reference;
          const auto results = RunWithCpuThreads([&](Device& device) {
            const Tensor a = Random(device, DType::kFloat32, at ? Shape{k_, m_} : Shape{m_, k_}, 1);
            const Tensor b = Random(device, DType::kFloat32, bt ? Shape{n_, k_} : Shape{k_, n_}, 2);
            const Tensor bias = add ? Tensor() : Random(device, DType::kFloat32, {n_}, 3);
            const Tensor out =
                add ? Random(device, DType::kFloat32, {m_, n_}, 4) : Poisoned(device, DType::kFloat32, {m_, n_});
            reference =
                Reference(p, Get(device, a), Get(device, b), add ? Values() : Get(device, bias), Get(device, out));
            cpu::MatmulEngine engine;
            const cpu::CpuContext context = {&device.arena(), device.threads(), &cpu::Avx2GemmKernel()};
            for (int call = 0; call < 2; ++call) {  // the second finds the product compiled
              const Tensor result = Clone(device, out);
              engine.ByOneDnn(context, a, ta, b, tb, result, accumulate, bias);
              if (call == 1) return std::vector<Tensor>{result};
            }
            return std::vector<Tensor>();
          });
          ExpectClose(results[0], reference, 3e-6);
        }
      }
    }
  }
}

// The linear layer's three products, against finite differences.
TEST(Matmul, BackwardOfLinear) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const int64_t rows = 6, in = 5, out = 7;
  const Tensor x = Random(*device, DType::kFloat32, {rows, in}, 1), w = Random(*device, DType::kFloat32, {out, in}, 2);
  const Tensor b = Random(*device, DType::kFloat32, {out}, 3), dy = Random(*device, DType::kFloat32, {rows, out}, 4);
  const Tensor y = Poisoned(*device, DType::kFloat32, {rows, out}), dx = Poisoned(*device, DType::kFloat32, {rows, in});
  const Tensor dw = From(*device, DType::kFloat32, {out, in}, Values(out * in, 0));
  const Tensor db = From(*device, DType::kFloat32, {out}, Values(out, 0));
  const auto loss = [&] {
    Matmul(*device, x, Transpose::kNo, w, Transpose::kYes, y, Accumulate::kNo, b);
    return Dot(Get(*device, y), Get(*device, dy));
  };
  Matmul(*device, dy, Transpose::kNo, w, Transpose::kNo, dx);
  Matmul(*device, dy, Transpose::kYes, x, Transpose::kNo, dw, Accumulate::kYes);
  BiasBackward(*device, dy, db);
  ExpectGradient(*device, x, loss, Get(*device, dx), "dx");
  ExpectGradient(*device, w, loss, Get(*device, dw), "dw");
  ExpectGradient(*device, b, loss, Get(*device, db), "db");
}

TEST(MatmulDeathTest, RefusesWrongShapes) {
  const std::unique_ptr<Device> device = NewNullDevice();
  const auto make = [&](DType dtype, Shape shape) { return device->Allocate(dtype, shape, Purpose::kActivations); };
  const Tensor a = make(DType::kFloat32, {2, 3}), b = make(DType::kFloat32, {4, 5});
  const Tensor half = make(DType::kBFloat16, {2, 3}), weight = make(DType::kBFloat16, {3, 5});
  EXPECT_DEATH(Matmul(*device, a, Transpose::kNo, b, Transpose::kNo, make(DType::kFloat32, {2, 5})),
               "b is .4, 5., must be .3, 5.");
  EXPECT_DEATH(
      Matmul(*device, half, Transpose::kNo, weight, Transpose::kNo, make(DType::kBFloat16, {2, 5}), Accumulate::kYes),
      "only into float32");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
