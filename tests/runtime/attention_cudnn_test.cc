// That cuDNN has kernels for our attention, found out without a GPU: cuDNN chooses, and compiles, for a GPU that is
// described to it, and accepting_driver.cc takes the result. That they compute the right thing is for a GPU to show.
#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <cudnn_frontend.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/devices/cuda.h"
#include "runtime/kernels/cuda/cuda.h"
#include "runtime/kernels/cuda/cudnn_graph.h"

namespace trefoil::cuda {
namespace {

using testing::HasSubstr;

struct Gpu {
  const char* name;
  int major;
  int multiprocessors, shared_memory_per_block, shared_memory_opted_in, l2_bytes;
};
constexpr Gpu kA100 = {"A100", 8, 108, 48 << 10, 163 << 10, 40 << 20};
constexpr Gpu kH100 = {"H100", 9, 132, 48 << 10, 227 << 10, 50 << 20};

int current_major = 0;  // of the GPU that the front end sees

// As cuDNN writes the properties of a device. Figures from NVIDIA's tables of compute capabilities and data sheets;
// only performance hangs on clocks.
std::string Properties(const Gpu& gpu) {
  return absl::StrCat(
      R"({"cudaDeviceId":0,"deviceVer":)", gpu.major * 100, R"(,"driverVer":13000,"deviceName":")", gpu.name,
      R"(","multiProcessorCount":)", gpu.multiprocessors, R"(,"warpSize":32,"maxGridSize":[2147483647,65535,65535],)",
      R"("maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"maxSharedMemoryPerBlock":)", gpu.shared_memory_per_block,
      R"(,"maxSharedMemoryPerBlockOptin":)", gpu.shared_memory_opted_in, R"(,"reservedSharedMemoryPerBlock":1024,)",
      R"("maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,)",
      R"("pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,"smClockRateKHz":1500000,"memClockRateKHz":1500000,)",
      R"("l2CacheSize":)", gpu.l2_bytes, R"(,"totalGlobalMem":85899345920})");
}

// Bytes of workspace of the plan, or why there is none.
absl::StatusOr<int64_t> PlanFor(const Gpu& gpu, const AttentionShape& shape, AttentionPass pass) {
  current_major = gpu.major;
  const std::string json = Properties(gpu);
  const auto properties = std::make_shared<cudnn_frontend::DeviceProperties>();
  const int64_t fused = shape.columns();
  AttentionStrides strides = {fused, fused, fused, fused, fused, fused};
  if (shape.key_tokens.has_value()) {
    const int64_t q = shape.heads * shape.head_dim, kv = 2 * shape.kv_heads * shape.head_dim;
    strides = {q, kv, kv, q, kv, kv};
  }
  const auto graph = AttentionGraph(shape, strides, pass);
  int64_t bytes = 0;
  std::string failed;
  const auto step = [&](const char* name, auto&& work) {
    if (!failed.empty()) return;
    cudnn_frontend::error_t error = work();
    if (error.is_bad()) failed = absl::StrCat(name, ": ", error.get_message());
  };
  step("properties", [&] { return properties->deserialize(std::vector<uint8_t>(json.begin(), json.end())); });
  graph->set_device_properties(properties);
  step("validate", [&] { return graph->validate(); });
  step("build_operation_graph", [&] { return graph->build_operation_graph(); });
  step("create_execution_plans", [&] { return graph->create_execution_plans({cudnn_frontend::HeurMode_t::A}); });
  step("check_support", [&] { return graph->check_support(); });
  step("build_plans", [&] { return graph->build_plans(); });
  step("get_workspace_size", [&] { return graph->get_workspace_size(bytes); });
  if (!failed.empty()) return absl::InternalError(failed);
  return bytes;
}

AttentionShape ShapeOf(int64_t batch, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  return {.batch = batch, .tokens = tokens, .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
}

// Of an encoder, or from a decoder's queries to an encoder's keys.
AttentionShape NotCausal(AttentionShape shape, std::optional<TokenRanges> key_tokens) {
  shape.causal = false;
  shape.key_tokens = key_tokens;
  return shape;
}

class CudnnPlanTest : public testing::TestWithParam<AttentionShape> {};

TEST_P(CudnnPlanTest, EveryPassHasOne) {
  const AttentionShape& s = GetParam();
  ASSERT_TRUE(CudnnTakesAttention(DType::kBFloat16, s.head_dim, s.tokens.tokens()));
  for (const Gpu& gpu : {kH100, kA100}) {
    SCOPED_TRACE(gpu.name);
    const auto forward = PlanFor(gpu, s, AttentionPass::kForward);
    const auto backward = PlanFor(gpu, s, AttentionPass::kBackward);
    const auto deterministic = PlanFor(gpu, s, AttentionPass::kDeterministicBackward);
    EXPECT_TRUE(forward.ok()) << forward.status();
    EXPECT_TRUE(backward.ok()) << backward.status();
    ASSERT_TRUE(deterministic.ok()) << deterministic.status();
    // The gradients of the scores, a bf16 each, in place of fp32 sums: training.proto says so.
    EXPECT_GE(*deterministic, 2 * s.batch * s.heads * s.tokens.tokens() * s.keys().tokens());
    if (s.tokens.tokens() >= 1024) {
      EXPECT_LT(backward.value_or(0), *deterministic);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudnnPlanTest,
                         testing::Values(ShapeOf(2, 1024, 12, 12, 64),  // GPT-2
                                         ShapeOf(2, 4096, 32, 8, 128),  // Llama 3 8B
                                         ShapeOf(1, 1000, 6, 1, 96), ShapeOf(3, 65, 4, 2, 40), ShapeOf(1, 2, 1, 1, 8),
                                         NotCausal(ShapeOf(2, 512, 12, 12, 64), std::nullopt),
                                         NotCausal(ShapeOf(2, 96, 8, 8, 64), 200)),
                         [](const auto& info) {
                           const AttentionShape& s = info.param;
                           return absl::StrCat("B", s.batch, "T", s.tokens.tokens(), "H", s.heads, "K", s.kv_heads,
                                               "D", s.head_dim, s.causal ? "" : "Whole");
                         });

// What CudnnTakesAttention leaves out has no plan: the test above can fail.
TEST(CudnnPlanTest, WhatIsLeftOutHasNone) {
  EXPECT_FALSE(CudnnTakesAttention(DType::kBFloat16, 64, 1));
  EXPECT_FALSE(PlanFor(kH100, ShapeOf(2, 1, 4, 4, 64), AttentionPass::kBackward).ok());
  EXPECT_FALSE(CudnnTakesAttention(DType::kBFloat16, 60, 128));
  EXPECT_FALSE(PlanFor(kH100, ShapeOf(2, 128, 4, 4, 60), AttentionPass::kForward).ok());
  EXPECT_FALSE(CudnnTakesAttention(DType::kBFloat16, 136, 128));
  EXPECT_FALSE(PlanFor(kA100, ShapeOf(2, 128, 4, 4, 136), AttentionPass::kBackward).ok());
  EXPECT_FALSE(CudnnTakesAttention(DType::kFloat32, 64, 128));
}

class CudnnAttentionTest : public testing::Test {
 protected:
  Tensor Allocate(DType dtype, Shape shape) const {
    const int64_t bytes = shape.elements() * static_cast<int64_t>(SizeOf(dtype));
    Arena::Block block = arena_->Allocate(bytes, Purpose::kActivations);
    return Tensor(std::move(block.owner), block.data, dtype, shape);
  }

  const std::shared_ptr<Arena> arena_ = Arena::Create(
      [](int64_t bytes) { return std::aligned_alloc(64, static_cast<size_t>(bytes + 63) / 64 * 64); },
      [](void* data, int64_t) { std::free(data); });
  const CudaContext cuda_ = {.arena = arena_.get()};
  const AttentionShape shape_ = ShapeOf(1, 4, 2, 1, 8);
};

TEST_F(CudnnAttentionTest, LeavesToOthersWhatItCannotDo) {
  CudnnAttention attention(/*deterministic=*/false);
  AttentionShape shape = shape_;
  const auto forward = [&](DType dtype, const AttentionDropout& dropout, int64_t skipped) {
    const Tensor qkv = Allocate(dtype, {5, 32}).Range(skipped, {4, 32});
    return attention.Forward(cuda_, FusedHeads(qkv, shape), shape, dropout, Allocate(dtype, {4, 16}),
                             Allocate(DType::kFloat32, {1, 2, 4}));
  };
  EXPECT_FALSE(forward(DType::kFloat32, {}, 0));
  EXPECT_FALSE(forward(DType::kBFloat16, {}, 1));
  AttentionDropout dropout;
  dropout.probability = 0.1f;
  EXPECT_FALSE(forward(DType::kBFloat16, dropout, 0));
  shape.tokens = {{0, 2}, {6, 2}};
  EXPECT_FALSE(forward(DType::kBFloat16, {}, 0));
  shape.tokens = {{4, 4}};
  shape.key_tokens = 4;
  EXPECT_FALSE(forward(DType::kBFloat16, {}, 0));
  shape = shape_;
  shape.lengths = Allocate(DType::kInt32, {1});
  EXPECT_FALSE(forward(DType::kBFloat16, {}, 0));
  shape = shape_;
  shape.scale = 1;
  EXPECT_FALSE(forward(DType::kBFloat16, {}, 0));
  const Tensor qkv = Allocate(DType::kBFloat16, {4, 32});
  AttentionHeads biased = FusedHeads(qkv, shape_);
  biased.bias = Allocate(DType::kBFloat16, {7, 2});
  EXPECT_FALSE(attention.Forward(cuda_, biased, shape_, {}, Allocate(DType::kBFloat16, {4, 16}),
                                 Allocate(DType::kFloat32, {1, 2, 4})));
}

// There is no GPU here: the first call of a run without one.
TEST_F(CudnnAttentionTest, FailureNamesTheCallAndTheWayOut) {
  CudnnAttention attention(/*deterministic=*/true);
  const Tensor qkv = Allocate(DType::kBFloat16, {4, 32}), out = Allocate(DType::kBFloat16, {4, 16});
  EXPECT_DEATH(attention.Forward(cuda_, FusedHeads(qkv, shape_), shape_, {}, out, Allocate(DType::kFloat32, {1, 2, 4})),
               "cudnnCreate: .*; runtime.attention: OWN");
}

}  // namespace
}  // namespace trefoil::cuda

// The front end asks the CUDA runtime about the GPU even where one is described to it (-Wl,--wrap).
extern "C" cudaError_t __wrap_cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
extern "C" cudaError_t __wrap_cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  properties->major = trefoil::cuda::current_major;
  return cudaSuccess;
}
