#include "runtime/host/product_speeds.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "runtime/device.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

double MeasureOne(DType dtype, Bf16Products bf16_products) {
  constexpr int64_t kTokens = 256, kWidth = 768;
  const std::unique_ptr<Device> device = NewCpuDevice(/*threads=*/1, bf16_products);
  const auto filled = [&](DType type, const Shape& shape) {
    const Tensor x = device->Allocate(type, shape, Purpose::kWorkspace);
    Fill(*device, x, 0.5f);
    return x;
  };
  const Tensor x = filled(dtype, {kTokens, kWidth}), weight = filled(dtype, {kWidth, kWidth});
  const Tensor y = filled(dtype, {kTokens, kWidth}), dx = filled(dtype, {kTokens, kWidth});
  const Tensor d_weight = filled(DType::kFloat32, {kWidth, kWidth});
  const auto layer = [&] {
    Matmul(*device, x, Transpose::kNo, weight, Transpose::kYes, y);
    Matmul(*device, y, Transpose::kNo, weight, Transpose::kNo, dx);
    WeightGradient(*device, y, x, d_weight, Tensor());
  };
  layer();  // compiles what is compiled, and touches all memory
  constexpr int kTries = 4;
  double shortest = 0;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const auto begin = std::chrono::steady_clock::now();
    layer();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    shortest = attempt == 0 ? seconds : std::min(shortest, seconds);
  }
  return 3 * 2.0 * kTokens * kWidth * kWidth / shortest;
}

}  // namespace

ProductSpeeds MeasureProductSpeeds() {
  return {.float32 = MeasureOne(DType::kFloat32, Bf16Products::kFloat32),
          .bf16_native = CpuHasBFloat16() ? MeasureOne(DType::kBFloat16, Bf16Products::kNative) : 0,
          .bf16_float32 = MeasureOne(DType::kBFloat16, Bf16Products::kFloat32)};
}

Bf16Products FasterBf16Products(const ProductSpeeds& speeds) {
  return speeds.bf16_native >= speeds.bf16_float32 ? Bf16Products::kNative : Bf16Products::kFloat32;
}

bool Bf16Pays(const ProductSpeeds& speeds) {
  return std::max(speeds.bf16_native, speeds.bf16_float32) > 1.1 * speeds.float32;
}

}  // namespace trefoil
