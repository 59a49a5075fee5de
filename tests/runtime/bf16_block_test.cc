#include "tests/runtime/bf16_emulation.h"
// After the emulation, which it is compiled against.
#include "runtime/kernels/cpu/bf16_block_tile.h"
#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

void Nothing() {}

// All kernels that run here, those of this CPU and the emulated ones.
std::vector<cpu::Bf16Kernel> Kernels() {
  std::vector<cpu::Bf16Kernel> kernels;
  for (const cpu::Bf16Kernel* kernel : cpu::Bf16Kernels()) kernels.push_back(*kernel);
  kernels.push_back({"emulated avx512_bf16", cpu::Avx512Block, Nothing, Nothing});
  kernels.push_back({"emulated amx_bf16", cpu::AmxBlock, cpu::AmxBegin, cpu::AmxEnd});
  return kernels;
}

// A product of m x n x k elements, filled up with zeros to whole blocks; `gap` further elements lie between rows, and
// rows begin at any address.
void Compare(const cpu::Bf16Kernel& kernel, int64_t m, int64_t n, int64_t k, int64_t gap, bool add) {
  SCOPED_TRACE(testing::Message() << kernel.name << " m " << m << " n " << n << " k " << k << " gap " << gap << " add "
                                  << add);
  const std::unique_ptr<Device> device = NewCpuDevice(1);
  const int64_t rows = cpu::PadBf16(m), columns = cpu::PadBf16(n), depth = cpu::PadBf16(k);
  const int64_t lda = depth + gap, ldb = columns + gap, ldc = columns + gap;
  const Tensor left = Random(*device, DType::kBFloat16, {m, k}, 1),
               right = Random(*device, DType::kBFloat16, {k, n}, 2);
  const Tensor before = Random(*device, DType::kFloat32, {rows, ldc}, 3);
  const BFloat16 nan(std::nanf(""));
  std::vector<BFloat16> a(static_cast<size_t>(rows * lda + 1), nan);
  std::vector<cpu::Bf16Pair> b(static_cast<size_t>(depth / 2 * ldb + 1), cpu::MakePair(nan, nan));
  const auto at = [](const Tensor& x, int64_t i, int64_t j) {
    const Shape& shape = x.shape();
    return i < shape[0] && j < shape[1] ? x.data<BFloat16>()[i * shape[1] + j] : BFloat16(0.0f);
  };
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t l = 0; l < depth; ++l) a[1 + i * lda + l] = at(left, i, l);
  }
  for (int64_t l = 0; l < depth; l += 2) {
    for (int64_t j = 0; j < columns; ++j) {
      b[1 + l / 2 * ldb + j] = cpu::MakePair(at(right, l, j), at(right, l + 1, j));
    }
  }
  Values reference = Get(*device, before);
  const Values x = Get(*device, left), y = Get(*device, right);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      double& sum = reference[i * ldc + j];
      if (!add) sum = 0;
      for (int64_t l = 0; l < k && i < m && j < n; ++l) sum += x[i * k + l] * y[l * n + j];
    }
  }
  {
    const cpu::Bf16Work work(kernel);
    kernel.block(rows, columns, depth, a.data() + 1, lda, b.data() + 1, ldb, before.data<float>(), ldc, add);
  }
  ExpectClose(Get(*device, before), reference, 3e-6);
}

TEST(Bf16Block, EveryKernelAndSize) {
  for (const cpu::Bf16Kernel& kernel : Kernels()) {
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                                  {32, 32, 32},
                                  {33, 31, 5},
                                  {64, 128, 64},
                                  {7, 96, 33},
                                  {65, 64, 127},
                                  {128, 40, 20}}) {
      for (const int64_t gap : {0, 3, 64}) {
        for (const bool add : {false, true}) Compare(kernel, m, n, k, gap, add);
      }
    }
  }
}

TEST(Bf16Block, NothingToDo) {
  for (const cpu::Bf16Kernel& kernel : Kernels()) {
    const cpu::Bf16Work work(kernel);
    kernel.block(0, 32, 32, nullptr, 32, nullptr, 32, nullptr, 32, false);
    kernel.block(32, 0, 32, nullptr, 32, nullptr, 32, nullptr, 32, false);
  }
}

// A thread gives the tiles back: whoever comes next (oneDNN) finds them free.
TEST(Bf16Block, ReleasesTiles) {
  {
    const cpu::Bf16Kernel amx = {"emulated amx_bf16", cpu::AmxBlock, cpu::AmxBegin, cpu::AmxEnd};
    const cpu::Bf16Work work(amx);
    EXPECT_EQ(cpu::ThreadTiles().config.palette, 1);
  }
  EXPECT_EQ(cpu::ThreadTiles().config.palette, 0);
}

}  // namespace
}  // namespace trefoil
