// Training in FP8: which products it makes of fp8, that it learns as bf16 does, and on every kind of layout.
#include <chrono>
#include <cmath>
#include <map>

#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

constexpr char kModel[] =
    "model { hidden: 64 heads: 8 kv_heads: 4 head_dim: 8 feed_forward: 128 sequence_length: 16 } "
    "training { micro_batch: 2 optimizer { clip_norm: 0 } } ";
constexpr char kFp8[] = "training { precision: FP8 } ";
constexpr char kBf16[] = "training { precision: BF16 } ";
constexpr ModelConfig::Family kFamilies[] = {ModelConfig::GPT, ModelConfig::LLAMA};

std::map<std::string, int> CallsOfAStep(const RunConfig& config) {
  std::map<std::string, int> calls;
  WithWorkers(config, [&](Worker& worker) {
    worker.device.Observe([&](const OpCount& count, std::chrono::steady_clock::time_point) { ++calls[count.op]; });
    CHECK(TrainStep(worker, LearnableTokens(config.model()), 1, 0, 1e-3).ok());
  });
  return calls;
}

// Four linear layers a block, each with y, dx and dW; what is left in bf16 is the head's.
TEST(Float8Training, TheBlocksLinearLayersMultiplyInFp8) {
  for (const ModelConfig::Family family : kFamilies) {
    for (const std::string recompute : {"", "parallel { recompute: SELECTIVE } "}) {
      const RunConfig config = TinyRun(family, kModel + recompute + kFp8);
      const int blocks = config.model().layers() * 4;  // by micro-batches
      auto fp8 = CallsOfAStep(config), bf16 = CallsOfAStep(TinyRun(family, kModel + recompute + kBf16));
      EXPECT_EQ(fp8["matmul_float8"], blocks * 4 * 3);
      EXPECT_EQ(fp8["quantize"], blocks * 4 * 5);  // x, W; dy, W, x
      EXPECT_EQ(fp8["matmul"], 4 * 3);
      EXPECT_EQ(fp8["matmul_gelu"] + fp8["matmul_gelu_backward"] + fp8["weight_gradient"], 0);
      EXPECT_EQ(bf16["matmul_float8"] + bf16["quantize"], 0);
      EXPECT_EQ(bf16["matmul"] + bf16["matmul_gelu"] + bf16["matmul_gelu_backward"] + bf16["weight_gradient"],
                blocks * 4 * 3 + 4 * 3);
    }
  }
}

// The root mean square of what differs in a parameter's first gradient, by that of the gradient, or a tenth of all
// gradients' where that is more: of the worst parameter.
double GradientDeviation(const Trace& trace, const Trace& reference) {
  std::map<std::string, Values> gradients;
  Values all;
  for (const auto& [name, values] : reference.first) {
    if (!name.starts_with("adam.m/")) continue;
    gradients[name] = Values(values.begin(), values.end());
    all.insert(all.end(), values.begin(), values.end());
  }
  const double floor = 0.1 * RootMeanSquare(all);
  double worst = 0;
  for (const auto& [name, gradient] : gradients) {
    const std::vector<float>& values = trace.first.at(name);
    Values difference(values.begin(), values.end());
    for (size_t i = 0; i < difference.size(); ++i) difference[i] -= gradient[i];
    worst = std::max(worst, RootMeanSquare(difference) / std::max(floor, RootMeanSquare(gradient)));
  }
  return worst;
}

// Losses within 3 % of bf16's at every step, falling as far; each parameter's first gradient within 25 % in root mean
// square (e5m2 rounds dy by up to an eighth).
TEST(Float8Training, FollowsBFloat16) {
  constexpr int kSteps = 30;
  const std::string run = std::string(kModel) + "training { steps: 30 optimizer { learning_rate: 3e-3 } } ";
  for (const ModelConfig::Family family : kFamilies) {
    const Trace fp8 = Train(TinyRun(family, run + kFp8), kSteps), bf16 = Train(TinyRun(family, run + kBf16), kSteps);
    EXPECT_LT(bf16.losses.back(), 0.75 * bf16.losses.front());
    EXPECT_NE(fp8.losses, bf16.losses);
    const Deviation deviation = Compare(fp8, bf16);
    EXPECT_LE(deviation.loss, 0.03) << ModelConfig::Family_Name(family);
    EXPECT_LE(GradientDeviation(fp8, bf16), 0.25) << ModelConfig::Family_Name(family);
    std::printf("%s: loss %.3f to %.3f, in bf16 %.3f to %.3f; worst deviation: loss %.1e, first gradient %.1e\n",
                ModelConfig::Family_Name(family).c_str(), fp8.losses.front(), fp8.losses.back(), bf16.losses.front(),
                bf16.losses.back(), deviation.loss, GradientDeviation(fp8, bf16));
  }
}

// Tensor ranks round partial sums to bf16, and what that moves across a middle of two fp8 values moves by a quarter of
// it; and their slices have scales of their own. Losses within 0.5 %, gradient norms within 3 %, each parameter's
// gradient within 20 % in root mean square. Other layouts quantize the same tensors: the same run.
TEST(Float8Training, LayoutsAgree) {
  constexpr int kSteps = 4;
  for (const ModelConfig::Family family : kFamilies) {
    const Trace reference = Train(TinyRun(family, std::string(kModel) + kFp8), kSteps);
    for (const char* layout :
         {"parallel { tensor: 2 }", "parallel { tensor: 4 sequence_parallel: true recompute: FULL }",
          "parallel { tensor: 2 pipeline: 2 sequence_parallel: true recompute: SELECTIVE }", "parallel { pipeline: 2 }",
          "parallel { data: 2 }"}) {
      const RunConfig config = TinyRun(family, std::string(kModel) + kFp8 + layout);
      SCOPED_TRACE(Describe(config));
      const Trace trace = Train(config, kSteps);
      const Deviation deviation = Compare(trace, reference);
      const double gradient = GradientDeviation(trace, reference);
      std::printf("%s: loss %.1e, norm %.1e, gradient %.1e\n", layout, deviation.loss, deviation.norm, gradient);
      const bool split = config.parallel().tensor() > 1;
      EXPECT_LE(deviation.loss, split ? 5e-3 : 1e-6);
      EXPECT_LE(deviation.norm, split ? 3e-2 : 1e-5);
      EXPECT_LE(gradient, split ? 0.2 : 1e-5);
    }
  }
}

TEST(Float8Training, RunsRepeatToTheBit) {
  const RunConfig config =
      TinyRun(ModelConfig::GPT, std::string(kModel) + kFp8 + "parallel { tensor: 2 pipeline: 2 }");
  const Trace a = Train(config, 3), b = Train(config, 3);
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  EXPECT_TRUE(a.first == b.first);
}

// Wherever a value is lost in fp8, the step is refused.
TEST(Float8Training, WeightThatIsNotFinite) {
  const RunConfig config = TinyRun(ModelConfig::LLAMA, std::string(kModel) + kFp8);
  WithWorkers(config, [&](Worker& worker) {
    const Tensor weight = worker.store.Weight({"blocks.1.mlp.down.weight"});
    Values values = Get(worker.device, weight);
    values[7] = INFINITY;
    const std::vector<float> host(values.begin(), values.end());
    const Tensor wide = worker.device.Allocate(DType::kFloat32, weight.shape(), Purpose::kActivations);
    worker.device.Upload(host.data(), wide);
    Cast(worker.device, wide, weight);
    const auto result = TrainStep(worker, LearnableTokens(config.model()), 1, 0, 1e-3);
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.status().message().find("step 1: the loss is"), std::string::npos) << result.status();
  });
}

}  // namespace
}  // namespace trefoil
