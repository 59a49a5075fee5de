#include <cmath>
#include <numeric>
#include <random>

#include "tests/model/model_testing.h"
#include "training/explain/attention_weights.h"
#include "training/explain/positions.h"

namespace trefoil {
namespace {

constexpr char kOneSample[] = "model { tied: false sequence_length: 8 } training { global_batch: 1 micro_batch: 1 }";
constexpr int64_t kLength = 8;

// Samples whose tokens are all unlike.
BatchSource UnlikeTokens(std::vector<float> weights = {}) {
  const bool weighted = !weights.empty();
  return BatchSource([weights](int64_t first, int64_t) -> absl::StatusOr<Batch> {
    std::vector<int32_t> inputs, targets;
    for (int64_t t = 0; t < kLength; ++t) {
      inputs.push_back(static_cast<int32_t>((7 * t + 3 + first) % 61));
      targets.push_back(static_cast<int32_t>((5 * t + first) % 61));
    }
    Batch batch = MakeBatch(kLength, first, inputs, targets);
    if (!weights.empty()) batch.weights = HostTensor(weights, {1, kLength});
    return batch;
  }, weighted);
}

TEST(LossByPosition, IsTheLossOfEachTarget) {
  for (const ModelConfig::Family family : {ModelConfig::LLAMA, ModelConfig::LSTM}) {
    WithWorkers(TinyRun(family, kOneSample), [](Worker& worker) {
      const auto losses = LossByPosition(worker, UnlikeTokens(), 4);
      ASSERT_TRUE(losses.ok()) << losses.status();
      ASSERT_EQ(losses->size(), static_cast<size_t>(kLength));
      const auto all = Evaluate(worker, UnlikeTokens(), 4);
      EXPECT_NEAR(std::accumulate(losses->begin(), losses->end(), 0.0) / kLength, all->loss, 1e-6);
      for (size_t t = 0; t < kLength; ++t) {
        std::vector<float> weights(kLength);
        weights[t] = 1;
        const auto one = Evaluate(worker, UnlikeTokens(weights), 4);
        EXPECT_NEAR((*losses)[t], one->loss, 1e-6);
        const auto weighted = LossByPosition(worker, UnlikeTokens(weights), 4);
        EXPECT_NEAR((*weighted)[t], one->loss, 1e-6);
        EXPECT_EQ((*weighted)[(t + 1) % kLength], 0);
      }
    });
  }
}

// What goes into the first block is a row of the embedding's matrix; each row is used once.
TEST(GradientByDistance, IsTheGradientOfEachTokensRow) {
  for (const ModelConfig::Family family : {ModelConfig::LLAMA, ModelConfig::LSTM, ModelConfig::RNN}) {
    WithWorkers(TinyRun(family, kOneSample), [](Worker& worker) {
      const auto norms = GradientByDistance(worker, UnlikeTokens(), 1);
      ASSERT_TRUE(norms.ok()) << norms.status();
      std::vector<float> last(kLength);
      last.back() = kLength;  // with a mean of 1
      AddGradients(worker, UnlikeTokens(last));
      const ParameterStore::Use use = worker.store.UseModule(0);
      const ParameterView table = worker.store.View({"embedding.token.weight"});
      const Values gradients = Get(worker.device, table.gradient());
      const auto columns = static_cast<size_t>(table.shape()[1]);
      for (int64_t t = 0; t < kLength; ++t) {
        double squares = 0;
        for (size_t c = 0; c < columns; ++c) {
          squares += std::pow(gradients[static_cast<size_t>((7 * t + 3) % 61) * columns + c], 2);
        }
        EXPECT_GT(squares, 0);
        EXPECT_NEAR((*norms)[static_cast<size_t>(kLength - 1 - t)] / std::sqrt(squares), 1, 1e-5);
      }
    });
  }
}

// Of the values they make what the op gives.
TEST(AttentionWeights, TimesValuesAreTheAttention) {
  const std::unique_ptr<Device> device = NewCpuDevice(1);
  std::mt19937 random(1);
  const auto make = [&](const Shape& shape) {
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    for (float& value : values) value = std::normal_distribution<float>()(random);
    const Tensor x = device->Allocate(DType::kFloat32, shape, Purpose::kActivations);
    device->Upload(values.data(), x);
    return x;
  };
  for (const bool causal : {false, true}) {
    for (const bool rich : {false, true}) {  // lengths, and a bias
      AttentionShape shape = {.batch = 2, .tokens = 5, .heads = 4, .kv_heads = 2, .head_dim = 8};
      if (!causal) shape.key_tokens = TokenRanges(7);
      shape.causal = causal;
      const int64_t keys = shape.keys().tokens();
      const Tensor q = make({10, 32}), kv = make({2 * keys, 32});
      AttentionHeads heads = SeparateHeads(q, kv, shape);
      if (rich) {
        heads.bias = make({2 * 7 - 1, 4});
        shape.scale = 1;
        shape.lengths = device->Allocate(DType::kInt32, {2}, Purpose::kActivations);
        device->Upload(std::vector<int32_t>{4, 5}.data(), shape.lengths);
      }
      const Tensor out = make({10, 32}), sums = make({2, 4, 5});
      Attention(*device, heads, shape, {}, out, sums);
      const AttentionWeights weights = AttentionWeightsOf(*device, "layer", shape, heads, sums);
      EXPECT_EQ(weights.queries, 5);
      EXPECT_EQ(weights.keys, keys);
      const Values values = Get(*device, kv), expected = Get(*device, out);
      for (int64_t b = 0; b < 2; ++b) {
        for (int64_t h = 0; h < 4; ++h) {
          for (int64_t t = 0; t < 5; ++t) {
            double sum = 0, first = 0;
            for (int64_t k = 0; k < keys; ++k) {
              sum += weights.Of(b, h, t, k);
              first += weights.Of(b, h, t, k) * values[static_cast<size_t>((b * keys + k) * 32 + 16 + h / 2 * 8)];
            }
            EXPECT_NEAR(sum, 1, 1e-5);
            EXPECT_NEAR(first, expected[static_cast<size_t>((b * 5 + t) * 32 + h * 8)], 1e-5);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace trefoil
