// A layer on its own, for the tests of layers.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>

#include "model/block.h"
#include "model/layers/attention.h"
#include "model/layers/embedding.h"
#include "model/layers/head.h"
#include "model/layers/linear.h"
#include "model/layers/mlp.h"
#include "model/layers/norm.h"
#include "runtime/random.h"
#include "tests/model/model_testing.h"
#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"

namespace trefoil {

inline constexpr int64_t kSamples = 2, kTokens = 6, kRows = kSamples * kTokens, kHidden = 12;

inline double Dot(const Values& a, const Values& b) {
  EXPECT_EQ(a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// A layer on its own: its parameters in a store with random values, a micro-batch, and the comparison.
class LayersTest : public testing::Test {
 protected:
  static ModelConfig Model(ModelConfig::Family family, float dropout = 0) {
    ModelConfig config;
    config.set_family(family);
    config.set_layers(2);
    config.set_hidden(kHidden);
    config.set_heads(4);
    config.set_kv_heads(family == ModelConfig::LLAMA ? 2 : 4);
    config.set_head_dim(4);  // heads * head_dim is not hidden, on purpose
    config.set_feed_forward(10);
    config.set_vocabulary(11);
    config.set_sequence_length(kTokens + 2);
    config.set_rope_theta(100);
    config.set_norm_epsilon(1e-3f);
    config.set_initial_deviation(0.3f);
    config.set_dropout(dropout);
    config.set_head(ModelConfig::TOKENS);
    config.set_targets(kTokens);
    return config;
  }

  // Gives the declared parameters memory and random values, norms and biases too.
  ParameterStore& Store() {
    int modules = 0;
    for (const Parameter& parameter : table_.all()) modules = std::max(modules, parameter.module + 1);
    std::vector<int> all;
    for (int module = 0; module < modules; ++module) all.push_back(module);
    uses_.clear();
    store_ = std::make_unique<ParameterStore>(table_, Mesh({}, 0), all, *device_, StoreOptions());
    for (const int module : all) uses_.push_back(store_->UseModule(module));
    for (const Parameter& parameter : table_.all()) {
      Values values = Random(parameter.shape.elements(), 0.4);
      if (parameter.initial == Initial::kOnes) {
        for (double& value : values) value += 1;
      }
      Set(*device_, store_->Weight({parameter.name}), values);
    }
    return *store_;
  }

  Values Random(int64_t n, double deviation) {
    Values values;
    for (int64_t i = 0; i < n; ++i) values.push_back(std::normal_distribution<double>(0, deviation)(engine_));
    return values;
  }
  Tensor RandomTensor(const Shape& shape, double deviation = 1) {
    const Tensor x = context_->NewFloat(shape);
    Set(*device_, x, Random(shape.elements(), deviation));
    return x;
  }

  MicroBatch Tokens(int vocabulary) {
    std::vector<int32_t> inputs, targets;
    for (int64_t i = 0; i < kRows; ++i) {
      inputs.push_back(static_cast<int32_t>(engine_() % static_cast<uint64_t>(vocabulary)));
      targets.push_back(static_cast<int32_t>(engine_() % static_cast<uint64_t>(vocabulary)));
    }
    const Batch batch = MakeBatch(kTokens, 5, std::move(inputs), std::move(targets));
    return MakeMicroBatch(*device_, batch, /*training=*/true, /*loss_scale=*/0.5f);
  }

  // The derivative of `loss` by each element of x that is looked at must be `gradient`'s: along four random directions
  // of the whole tensor, and for up to 12 elements each by itself.
  void ExpectDerivative(const Tensor& x, const std::function<double()>& loss, const Values& gradient,
                        const std::string& what) {
    const Values start = Get(*device_, x);
    const double scale = RootMeanSquare(gradient);
    EXPECT_GT(scale, 1e-3) << what << ": the test tells nothing";
    // Richardson's extrapolation of two central differences: the error is of order step^4, so that the step can be
    // large beside fp32 rounding.
    const auto derivative = [&](const Values& direction) {
      const auto difference = [&](double step) {
        double losses[2];
        for (const int side : {0, 1}) {
          Values moved = start;
          for (size_t i = 0; i < moved.size(); ++i) moved[i] += (side == 0 ? -step : step) * direction[i];
          Set(*device_, x, moved);
          losses[side] = loss();
        }
        Set(*device_, x, start);
        return (losses[1] - losses[0]) / (2 * step);
      };
      return (4 * difference(0.03) - difference(0.06)) / 3;
    };
    for (int i = 0; i < 12; ++i) {
      const size_t at = engine_() % start.size();
      Values direction(start.size());
      direction[at] = 1;
      EXPECT_NEAR(derivative(direction), gradient[at], 1e-3 * (std::abs(gradient[at]) + scale))
          << what << "[" << at << "]";
    }
    for (int i = 0; i < 4; ++i) {
      const Values direction = Random(static_cast<int64_t>(start.size()), 1 / std::sqrt(start.size()));
      EXPECT_NEAR(derivative(direction), Dot(gradient, direction), 2e-3 * scale) << what << ", along a direction";
    }
  }

  // forward(x): y or, for layers that make a loss of their own, a scalar-like tensor to be projected as well.
  // backward(x, dy, weights): dx, after a forward of its own; undefined where the layer has no input gradient.
  using Forward = std::function<Tensor(const Tensor& x)>;
  using Backward = std::function<Tensor(const Tensor& x, const Tensor& dy, WeightGradients& weights)>;
  void CheckLayer(const Tensor& x, const Forward& forward, const Backward& backward) {
    const Tensor y = forward(x);
    const Tensor dy = context_->NewFloat(y.shape());
    const Values projection = projection_.empty() ? Random(y.elements(), 1) : projection_;
    Set(*device_, dy, projection);
    const auto loss = [&] { return Dot(Get(*device_, forward(x)), projection); };

    WeightGradients at_once(/*at_once=*/true);
    const Tensor dx = backward(x, dy, at_once);
    std::map<std::string, Values> gradients;
    for (const Parameter& parameter : table_.all()) {
      const Values gradient = Get(*device_, store_->Gradient({parameter.name}));
      if (IsOfModule(parameter)) {
        gradients[parameter.name] = gradient;
      } else {
        EXPECT_EQ(RootMeanSquare(gradient), 0) << parameter.name << " is another module's";
      }
    }
    if (dx.defined()) ExpectDerivative(x, loss, Get(*device_, dx), "x");
    for (const auto& [name, gradient] : gradients) {
      if (name.ends_with(".k.bias") && !rotary_) {  // softmax does not see it; turned by rotary positions or normed, it does
        EXPECT_LT(RootMeanSquare(gradient), 1e-5) << name;
        continue;
      }
      ExpectDerivative(store_->Weight({name}), loss, gradient, name);
    }

    // Queued, once more: weight gradients are added, the input's are the same.
    Set(*device_, dy, projection);
    WeightGradients queue(/*at_once=*/false);
    const Tensor again = backward(x, dy, queue);
    EXPECT_TRUE(!dx.defined() || Get(*device_, again) == Get(*device_, dx));
    queue.Run();
    for (const auto& [name, gradient] : gradients) {
      Values twice = gradient;
      for (double& value : twice) value *= 2;
      ExpectClose(Get(*device_, store_->Gradient({name})), twice, 1e-5, name + ", added twice", 1e-2);
    }
  }

  bool IsOfModule(const Parameter& parameter) const {
    const std::vector<int>& tied = parameter.tied_modules;
    return module_ < 0 || parameter.module == module_ || std::find(tied.begin(), tied.end(), module_) != tied.end();
  }

  void CheckLinear(Split split, size_t parts) {
    LinearShape shape = {
        .prefixes = {}, .outputs = {}, .inputs = kHidden, .bias = true, .deviations = {}, .split = split};
    for (size_t i = 0; i < parts; ++i) {
      shape.prefixes.push_back("part" + std::to_string(i));
      shape.outputs.push_back(static_cast<int64_t>(5 + i));
      shape.deviations.push_back(1);
    }
    DeclareLinear(shape, 0, &table_);
    const Linear linear(Store(), shape);
    CheckLayer(
        RandomTensor({kRows, kHidden}), [&](const Tensor& x) { return linear.Forward(*context_, x); },
        [&](const Tensor& x, const Tensor& dy, WeightGradients& weights) {
          return linear.Backward(*context_, dy, x, weights);
        });
  }

  void CheckNorm(ModelConfig::Family family) {
    const ModelConfig config = Model(family);
    Norm::Declare(config, "norm", 0, &table_);
    const Norm norm(Store(), config, "norm");
    // The residual's gradient comes in by itself.
    const Values residual = Random(kRows * kHidden, 1);
    CheckLayer(
        RandomTensor({kRows, kHidden}),
        [&](const Tensor& x) {
          Norm::Saved saved;
          return norm.Forward(*context_, x, &saved);
        },
        [&](const Tensor& x, const Tensor& dy, WeightGradients&) {
          Norm::Saved saved;
          norm.Forward(*context_, x, &saved);
          return norm.Backward(*context_, dy, saved, Tensor());
        });
    Norm::Saved saved;
    const Tensor x = RandomTensor({kRows, kHidden}), dy = RandomTensor({kRows, kHidden});
    norm.Forward(*context_, x, &saved);
    const Values plain = Get(*device_, norm.Backward(*context_, dy, saved, Tensor()));
    const Tensor d_residual = context_->NewFloat({kRows, kHidden});
    Set(*device_, d_residual, residual);
    Values sum = plain;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += residual[i];
    ExpectClose(Get(*device_, norm.Backward(*context_, dy, saved, d_residual)), sum, 1e-6, "with a residual");
    ExpectClose(Get(*device_, d_residual), residual, 1e-7, "the residual's gradient itself");
  }

  void CheckAttention(const ModelConfig& config) {
    rotary_ = config.family() == ModelConfig::LLAMA || config.qk_norm();
    const AttentionPlace place = {.prefix = "attention"};
    AttentionLayer::Declare(config, place, 0, &table_);
    const AttentionLayer attention(Store(), config, place);
    const MicroBatch batch = Tokens(config.vocabulary());
    CheckLayer(
        RandomTensor({kRows, kHidden}),
        [&](const Tensor& h) {
          AttentionLayer::Saved saved;
          return attention.Forward(*context_, batch, h, Tensor(), &saved);
        },
        [&](const Tensor& h, const Tensor& dy, WeightGradients& weights) {
          AttentionLayer::Saved saved;
          attention.Forward(*context_, batch, h, Tensor(), &saved);
          return attention.Backward(*context_, batch, dy, h, Tensor(), saved, weights, nullptr);
        });
  }

  void CheckMlp(const ModelConfig& config, bool keep_activation = true) {
    Mlp::Declare(config, "mlp", 0, &table_);
    const Mlp mlp(Store(), config, "mlp");
    CheckLayer(
        RandomTensor({kRows, kHidden}),
        [&](const Tensor& h) {
          Mlp::Saved saved;
          return mlp.Forward(*context_, h, &saved);
        },
        [&](const Tensor& h, const Tensor& dy, WeightGradients& weights) {
          Mlp::Saved saved;
          mlp.Forward(*context_, h, &saved);
          if (!keep_activation) saved.a = Tensor();
          return mlp.Backward(*context_, dy, h, saved, weights);
        });
  }

  void CheckBlock(const ModelConfig& config, ParallelConfig::Recompute recompute) {
    NewContext(recompute);
    const BlockPlace place = {.prefix = "blocks.0", .module = 1};
    Block::Declare(config, place, &table_);
    const Block block(Store(), config, place);
    const MicroBatch batch = Tokens(config.vocabulary());
    CheckLayer(
        RandomTensor({kRows, kHidden}),
        [&](const Tensor& x) {
          ForwardPass pass;
          return block.Forward(*context_, batch, {x}, &pass).front();
        },
        [&](const Tensor& x, const Tensor& dy, WeightGradients& weights) {
          ForwardPass pass;
          block.Forward(*context_, batch, {x}, &pass);
          return block.Backward(*context_, batch, {dy}, std::move(pass.saved), weights).front();
        });
  }

  void CheckEmbedding(ModelConfig::Family family, float dropout) {
    const ModelConfig config = Model(family, dropout);
    TokenEmbedding::Declare(config, 0, {}, &table_);
    const TokenEmbedding embedding(Store(), config, 0);
    const MicroBatch batch = Tokens(config.vocabulary());
    CheckLayer(
        Tensor(),
        [&](const Tensor&) {
          ForwardPass pass;
          return embedding.Forward(*context_, batch, {}, &pass).front();
        },
        [&](const Tensor&, const Tensor& dy, WeightGradients& weights) {
          EXPECT_TRUE(embedding.Backward(*context_, batch, {dy}, nullptr, weights).empty());
          return Tensor();
        });
  }

  // divided: as where weight gradients wait.
  void CheckHead(ModelConfig::Family family, bool tied, bool divided) {
    ModelConfig config = Model(family);
    config.set_tied(tied);
    if (tied) {
      ParameterTable unused;
      TokenEmbedding::Declare(config, 0, {1}, &unused);
      table_.Add(unused.Find("embedding.token.weight"));  // the head's matrix
    }
    Head::Declare(config, 1, &table_);
    const Head head(Store(), config, 1);
    const MicroBatch batch = Tokens(config.vocabulary());
    MicroBatch no_training = batch;
    no_training.training = false;
    projection_.assign(kRows, batch.loss_scale);
    CheckLayer(
        RandomTensor({kRows, kHidden}),
        [&](const Tensor& x) {
          ForwardPass pass;
          EXPECT_TRUE(head.Forward(*context_, no_training, {x}, &pass).empty());
          return pass.losses.at(0).values;
        },
        [&](const Tensor& x, const Tensor&, WeightGradients& weights) {
          ForwardPass pass = {.divided = divided};
          head.Forward(*context_, batch, {x}, &pass);
          return head.Backward(*context_, batch, {}, std::move(pass.saved), weights).front();
        });
  }

  void NewContext(ParallelConfig::Recompute recompute) {
    context_.reset(new Context{.device = *device_,
                               .tensor = *tensor_,
                               .sequence_parallel = false,
                               .dtype = DType::kFloat32,
                               .recompute = recompute,
                               .dropout_seed = 3});
  }

  LayersTest() { NewContext(ParallelConfig::NOTHING); }

  std::mt19937_64 engine_{11};
  const std::unique_ptr<Device> device_ = NewTestDevice();
  const std::unique_ptr<World> null_ = NewNullWorld(1, 0);
  const TestWorld world_{*null_};
  const std::unique_ptr<Group> tensor_ = world_->NewGroup("tensor", {0}, *device_);
  std::unique_ptr<Context> context_;
  ParameterTable table_;
  std::unique_ptr<ParameterStore> store_;
  std::vector<ParameterStore::Use> uses_;  // of all its modules
  Values projection_;    // of a layer that knows its own; else random
  bool rotary_ = false;  // the layer has rotary positions, or norms keys
  int module_ = -1;      // the table has others' parameters too; -1: all are the layer's
};

}  // namespace trefoil
