// Low-rank adapters: the formula, and gradients against finite differences.
#include "model/layers/low_rank.h"

#include "tests/model/layers_testing.h"

namespace trefoil {
namespace {

class LowRankTest : public LayersTest {
 protected:
  static LinearShape Shape(Split split, const std::vector<bool>& adapted) {
    LinearShape shape = {.prefixes = {},
                         .outputs = {},
                         .inputs = kHidden,
                         .bias = true,
                         .deviations = {},
                         .split = split,
                         .rank = 3,
                         .adapter_scale = 0.75f,
                         .adapted = adapted};
    for (size_t i = 0; i < adapted.size(); ++i) {
      shape.prefixes.push_back("part" + std::to_string(i));
      shape.outputs.push_back(static_cast<int64_t>(5 + i));
      shape.deviations.push_back(1);
    }
    return shape;
  }

  static ModelConfig WithLora(ModelConfig config, const std::vector<LoraConfig::Target>& on) {
    config.mutable_lora()->set_rank(2);
    config.mutable_lora()->set_alpha(3);
    for (const LoraConfig::Target target : on) config.mutable_lora()->add_on(target);
    return config;
  }

  void CheckAdaptedLinear(Split split, const std::vector<bool>& adapted) {
    const LinearShape shape = Shape(split, adapted);
    DeclareLinear(shape, 0, &table_);
    const Linear linear(Store(), shape);
    CheckLayer(
        RandomTensor({kRows, kHidden}), [&](const Tensor& x) { return linear.Forward(*context_, x); },
        [&](const Tensor& x, const Tensor& dy, WeightGradients& weights) {
          return linear.Backward(*context_, dy, x, weights);
        });
  }
};

// y = x W^T + b + scale x A^T B^T, part by part, in double.
TEST_F(LowRankTest, IsThePapersFormula) {
  const LinearShape shape = Shape(Split::kColumn, {true, false, true});
  DeclareLinear(shape, 0, &table_);
  const Linear linear(Store(), shape);
  const Tensor x = RandomTensor({kRows, kHidden});
  const Values found = Get(*device_, linear.Forward(*context_, x)), in = Get(*device_, x);
  const auto get = [&](const std::string& name) { return Get(*device_, store_->Weight({name})); };
  Values expected(found.size());
  const size_t columns = 5 + 6 + 7;
  size_t first = 0;
  for (size_t part = 0; part < 3; ++part) {
    const std::string prefix = shape.prefixes[part];
    const Values w = get(prefix + ".weight"), bias = get(prefix + ".bias");
    const bool adapted = shape.adapted[part];
    const Values a = adapted ? get(prefix + ".lora_a") : Values(3 * kHidden);
    const Values b = adapted ? get(prefix + ".lora_b") : Values(3 * (5 + part));
    for (size_t row = 0; row < kRows; ++row) {
      for (size_t out = 0; out < 5 + part; ++out) {
        double sum = bias[out];
        for (size_t i = 0; i < kHidden; ++i) {
          double matrix = w[out * kHidden + i];
          for (size_t r = 0; r < 3; ++r) matrix += 0.75 * b[out * 3 + r] * a[r * kHidden + i];
          sum += matrix * in[row * kHidden + i];
        }
        expected[row * columns + first + out] = sum;
      }
    }
    first += 5 + part;
  }
  ExpectClose(found, expected, 1e-5, "y");
}

TEST_F(LowRankTest, ColumnOfOne) { CheckAdaptedLinear(Split::kColumn, {true}); }
TEST_F(LowRankTest, ColumnOfThreeOfWhichTwoAreAdapted) { CheckAdaptedLinear(Split::kColumn, {true, false, true}); }
TEST_F(LowRankTest, Row) { CheckAdaptedLinear(Split::kRow, {true}); }
TEST_F(LowRankTest, GatedMlp) {
  CheckMlp(WithLora(Model(ModelConfig::LLAMA), {LoraConfig::GATE, LoraConfig::UP, LoraConfig::DOWN}));
}
TEST_F(LowRankTest, Mlp) { CheckMlp(WithLora(Model(ModelConfig::GPT), {LoraConfig::UP, LoraConfig::DOWN})); }
TEST_F(LowRankTest, MlpOfWhichOneIsAdapted) { CheckMlp(WithLora(Model(ModelConfig::GPT), {LoraConfig::DOWN})); }
TEST_F(LowRankTest, MlpOfWhichTheOtherIsAdapted) { CheckMlp(WithLora(Model(ModelConfig::GPT), {LoraConfig::UP})); }

TEST_F(LowRankTest, BlockThatIsRecomputed) {
  ModelConfig config = WithLora(Model(ModelConfig::LLAMA), {LoraConfig::QUERY, LoraConfig::KEY, LoraConfig::VALUE,
                                                            LoraConfig::OUTPUT, LoraConfig::DOWN});
  // Small beside the matrices, so that attention is no more curved than without them.
  config.mutable_lora()->set_alpha(0.5f);
  CheckBlock(config, ParallelConfig::FULL);
}

}  // namespace
}  // namespace trefoil
