// Every layer's backward against central differences of its forward, for its input and each of its weights. The loss is
// a random projection of the output, added up in double. One rank: what tensor ranks add is layouts_test.cc's.
#include "model/rope_scaling.h"
#include "model/transformer.h"
#include "parallel/pipeline/pipeline.h"
#include "tests/model/layers_testing.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

TEST_F(LayersTest, ColumnLinear) { CheckLinear(Split::kColumn, 1); }
TEST_F(LayersTest, ColumnLinearOfThreeParts) { CheckLinear(Split::kColumn, 3); }
TEST_F(LayersTest, RowLinear) { CheckLinear(Split::kRow, 1); }
TEST_F(LayersTest, LayerNorm) { CheckNorm(ModelConfig::GPT); }
TEST_F(LayersTest, RmsNorm) { CheckNorm(ModelConfig::LLAMA); }
TEST_F(LayersTest, Attention) { CheckAttention(Model(ModelConfig::GPT)); }
TEST_F(LayersTest, AttentionWithDropout) { CheckAttention(Model(ModelConfig::GPT, 0.3f)); }
TEST_F(LayersTest, AttentionWithoutQkvBiases) {
  ModelConfig config = Model(ModelConfig::GPT);
  config.set_qkv_bias(false);
  CheckAttention(config);
  EXPECT_EQ(table_.all().size(), 5u) << "q, k, v, output, and the output's bias";
}
TEST_F(LayersTest, RotaryGroupedQueryAttention) { CheckAttention(Model(ModelConfig::LLAMA)); }
TEST_F(LayersTest, RotaryGroupedQueryAttentionWithQkvBiases) {
  ModelConfig config = Model(ModelConfig::LLAMA);
  config.set_qkv_bias(true);
  CheckAttention(config);
  EXPECT_EQ(table_.all().size(), 7u) << "q, k, v and their biases, output without";
}
TEST_F(LayersTest, AttentionWithNormedQueriesAndKeys) {
  for (const auto family : {ModelConfig::LLAMA, ModelConfig::GPT}) {
    table_ = {};
    ModelConfig config = Model(family);
    config.set_qk_norm(true);
    CheckAttention(config);
    EXPECT_EQ(table_.Find("attention.k_norm.weight").shape, Shape({4}));
  }
}
TEST_F(LayersTest, AttentionWithScaledRotaryPositions) {
  ModelConfig config = Model(ModelConfig::LLAMA);
  config.set_qk_norm(true);
  RopeScaling& scaling = *config.mutable_rope_scaling();
  scaling.set_kind(RopeScaling::YARN);
  scaling.set_factor(4);
  scaling.set_original_length(4);
  scaling.set_beta_fast(32);
  scaling.set_beta_slow(1);
  scaling.set_attention_factor(1.3f);
  CheckAttention(config);
}
TEST_F(LayersTest, AttentionWithAllBiases) {
  ModelConfig config = Model(ModelConfig::LLAMA);
  config.set_qkv_bias(true);
  config.set_attention_output_bias(true);
  CheckAttention(config);
  EXPECT_EQ(table_.all().size(), 8u) << "q, k, v, output and their biases";
}
TEST_F(LayersTest, MlpsOfOtherActivations) {
  for (const auto family : {ModelConfig::GPT, ModelConfig::LLAMA}) {
    for (const auto activation : {ModelConfig::GELU_TANH, ModelConfig::GELU, ModelConfig::RELU, ModelConfig::SILU}) {
      for (const bool gated : {false, true}) {
        SCOPED_TRACE(ModelConfig::Activation_Name(activation));
        if (activation == ModelConfig::RELU) continue;  // no slope at 0
        table_ = {};
        ModelConfig config = Model(family);
        config.set_activation(activation);
        config.set_gated(gated);
        config.set_mlp_bias(gated);
        CheckMlp(config, /*keep_activation=*/gated);
        EXPECT_EQ(table_.all().size(), gated ? 6u : 2u) << "up and down, or gate, up and down and their biases";
      }
    }
  }
}
TEST_F(LayersTest, BlockWithNormedQueriesAndKeysRecomputed) {
  ModelConfig config = Model(ModelConfig::LLAMA);
  config.set_qk_norm(true);
  CheckBlock(config, ParallelConfig::FULL);
}
// What goes into a tied head of T5 is divided by sqrt(C) (T5 1.0).
TEST_F(LayersTest, TiedHeadOfT5) { CheckHead(ModelConfig::T5, true, /*divided=*/false); }
TEST_F(LayersTest, TiedHeadOfT5Divided) { CheckHead(ModelConfig::T5, true, /*divided=*/true); }

// Pairs of known models of transformers: Llama 3.2 (theta 5e5, LLAMA3 of 32, 1, 4, 8192) and Qwen2.5 with YARN (theta
// 1e6, 4 of 32768), heads of 64; it computes them in float32.
TEST(RopeScalingTest, FrequenciesOfKnownModels) {
  ModelConfig config;
  config.set_head_dim(64);
  const auto expect = [&](std::initializer_list<double> known) {
    const RotaryFrequencies frequencies = RotaryFrequenciesOf(config);
    const int64_t pairs[] = {0, 8, 14, 16, 18, 24, 31};
    ASSERT_EQ(known.size(), std::size(pairs));
    for (size_t i = 0; i < known.size(); ++i) {
      const double frequency = std::pow(static_cast<double>(frequencies.theta), -static_cast<double>(pairs[i]) / 32);
      EXPECT_NEAR(frequencies.Scaled(frequency, pairs[i]) / known.begin()[i], 1, 5e-7) << "pair " << pairs[i];
    }
  };
  config.set_rope_theta(5e5f);
  RopeScaling& scaling = *config.mutable_rope_scaling();
  scaling.set_kind(RopeScaling::LLAMA3);
  scaling.set_factor(32);
  scaling.set_low_frequency_factor(1);
  scaling.set_high_frequency_factor(4);
  scaling.set_original_length(8192);
  expect({1, .0376060307, .00321144611, 4.29556705e-4, 1.94616387e-5, 1.66196742e-6, 9.41830649e-8});
  EXPECT_EQ(RotaryFrequenciesOf(config).magnitude, 1);
  config.set_rope_theta(1e6f);
  scaling.Clear();
  scaling.set_kind(RopeScaling::YARN);
  scaling.set_factor(4);
  scaling.set_original_length(32768);
  ModelDefaults(&config);
  expect({1, .0316227786, .00177853031, 5.83333371e-4, 1.75706868e-4, 7.90569356e-6, 3.84981632e-7});
  EXPECT_NEAR(RotaryFrequenciesOf(config).magnitude, 1.13862944, 1e-7);
  scaling.set_kind(RopeScaling::LINEAR);
  expect({1 / 4.0, .0316227766 / 4, .00237137371 / 4, 1e-3 / 4, 4.21696503e-4 / 4, 3.16227766e-5 / 4, 1.53992653e-6 / 4});
  scaling.set_kind(RopeScaling::KIND_UNSET);
  expect({1, .0316227766, .00237137371, 1e-3, 4.21696503e-4, 3.16227766e-5, 1.53992653e-6});
}

TEST_F(LayersTest, GeluMlp) { CheckMlp(Model(ModelConfig::GPT)); }
TEST_F(LayersTest, GeluMlpWithActivationDropped) { CheckMlp(Model(ModelConfig::GPT), false); }
TEST_F(LayersTest, SwiGluMlp) { CheckMlp(Model(ModelConfig::LLAMA)); }
TEST_F(LayersTest, SwiGluMlpWithActivationDropped) { CheckMlp(Model(ModelConfig::LLAMA), false); }
TEST_F(LayersTest, GptEmbedding) { CheckEmbedding(ModelConfig::GPT, 0); }
TEST_F(LayersTest, GptEmbeddingWithDropout) { CheckEmbedding(ModelConfig::GPT, 0.3f); }
TEST_F(LayersTest, LlamaEmbedding) { CheckEmbedding(ModelConfig::LLAMA, 0); }
TEST_F(LayersTest, TiedHead) { CheckHead(ModelConfig::GPT, true, /*divided=*/false); }
TEST_F(LayersTest, TiedHeadDivided) { CheckHead(ModelConfig::GPT, true, /*divided=*/true); }
TEST_F(LayersTest, UntiedHead) { CheckHead(ModelConfig::LLAMA, false, /*divided=*/false); }
TEST_F(LayersTest, UntiedHeadDivided) { CheckHead(ModelConfig::LLAMA, false, /*divided=*/true); }
TEST_F(LayersTest, LlamaTiedHead) { CheckHead(ModelConfig::LLAMA, true, /*divided=*/false); }
TEST_F(LayersTest, LlamaTiedHeadDivided) { CheckHead(ModelConfig::LLAMA, true, /*divided=*/true); }
TEST_F(LayersTest, GptUntiedHead) { CheckHead(ModelConfig::GPT, false, /*divided=*/false); }
TEST_F(LayersTest, GptUntiedHeadDivided) { CheckHead(ModelConfig::GPT, false, /*divided=*/true); }
TEST_F(LayersTest, GptBlock) { CheckBlock(Model(ModelConfig::GPT), ParallelConfig::NOTHING); }
TEST_F(LayersTest, LlamaBlock) { CheckBlock(Model(ModelConfig::LLAMA), ParallelConfig::NOTHING); }
TEST_F(LayersTest, GptBlockWithDropout) { CheckBlock(Model(ModelConfig::GPT, 0.3f), ParallelConfig::NOTHING); }
TEST_F(LayersTest, GptBlockWithDropoutSelective) { CheckBlock(Model(ModelConfig::GPT, 0.3f), ParallelConfig::SELECTIVE); }
TEST_F(LayersTest, GptBlockWithDropoutFull) { CheckBlock(Model(ModelConfig::GPT, 0.3f), ParallelConfig::FULL); }
TEST_F(LayersTest, LlamaBlockFull) { CheckBlock(Model(ModelConfig::LLAMA), ParallelConfig::FULL); }

// With a large vocabulary the head takes a micro-batch in several chunks of rows (here 64, 64, 32): the same as if each
// sample came alone.
TEST_F(LayersTest, HeadInChunks) {
  ModelConfig config = Model(ModelConfig::LLAMA);
  config.set_vocabulary(300'001);
  config.set_hidden(4);
  Head::Declare(config, 0, &table_);
  ParameterStore& store = Store();
  const Head head(store, config, 0);
  constexpr int64_t kLength = 40, kCount = 4;
  const Tensor x = RandomTensor({kCount * kLength, 4});
  const Tensor d_weight = store.Gradient({"head.output.weight"});
  const auto run = [&](int64_t first, int64_t count, bool divided, Values* loss, Values* dx) {
    std::vector<int32_t> ids;
    for (int64_t row = first * kLength; row < (first + count) * kLength; ++row) {
      ids.push_back(static_cast<int32_t>(row * 7919 % config.vocabulary()));
    }
    const Batch batch = MakeBatch(kLength, first, ids, ids);
    const MicroBatch micro_batch = MakeMicroBatch(*device_, batch, /*training=*/true, 1);
    ForwardPass pass = {.divided = divided};
    WeightGradients weights(/*at_once=*/!divided);
    head.Forward(*context_, micro_batch, {x.Rows(first * kLength, (first + count) * kLength)}, &pass);
    for (const double value : Get(*device_, pass.losses.at(0).values)) loss->push_back(value);
    const Values before = Get(*device_, d_weight);
    const Tensors d = head.Backward(*context_, micro_batch, {}, std::move(pass.saved), weights);
    for (const double value : Get(*device_, d.front())) dx->push_back(value);
    EXPECT_EQ(Get(*device_, d_weight), before) << "made by the forward, or waits";
    weights.Run();
  };
  Values loss, dx, losses, dxs;
  run(0, kCount, /*divided=*/false, &loss, &dx);
  const Values gradient = Get(*device_, d_weight);
  Fill(*device_, d_weight, 0);
  for (int64_t i = 0; i < kCount; ++i) run(i, 1, /*divided=*/false, &losses, &dxs);
  ExpectClose(loss, losses, 1e-6, "loss");
  ExpectClose(dx, dxs, 1e-5, "dx");
  ExpectClose(Get(*device_, d_weight), gradient, 1e-5, "d_weight");
  EXPECT_GT(RootMeanSquare(gradient), 1e-3);
  // Where the weights' gradient waits, the same products are made in the same order.
  Fill(*device_, d_weight, 0);
  Values divided_loss, divided_dx;
  run(0, kCount, /*divided=*/true, &divided_loss, &divided_dx);
  EXPECT_EQ(divided_loss, loss);
  EXPECT_EQ(divided_dx, dx);
  EXPECT_EQ(Get(*device_, d_weight), gradient);
}

// A module that makes a loss of its own of what it gives: 0.1 times each element, and its gradient.
class WithAuxiliaryLoss : public Module {
 public:
  static constexpr float kWeight = 0.1f;
  explicit WithAuxiliaryLoss(std::unique_ptr<Module> module) : module_(std::move(module)) {}
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override {
    const Tensors y = module_->Forward(context, batch, x, pass);
    pass->losses.push_back(
        {.name = "auxiliary", .values = Map(context, y.front(), [](double v) { return kWeight * v; })});
    return y;
  }
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& dy, std::unique_ptr<Saved> saved,
                   WeightGradients& weights) const override {
    const Tensor both = Map(context, dy.front(), [](double v) { return v + kWeight; });
    return module_->Backward(context, batch, {both}, std::move(saved), weights);
  }

 private:
  static Tensor Map(const Context& context, const Tensor& x, const std::function<double(double)>& function) {
    Values values = Get(context.device, x);
    for (double& value : values) value = function(value);
    const Tensor y = context.New(x.shape());
    Set(context.device, y, values);
    return y;
  }

  const std::unique_ptr<Module> module_;
};

TEST_F(LayersTest, AnyModuleMayMakeALoss) {
  const ModelConfig config = Model(ModelConfig::LLAMA);
  table_ = DeclareModel(config);
  ParameterStore& store = Store();
  std::vector<ModuleSpec> modules = ModulesOf(config);
  modules[1].build = [inner = modules[1].build](const ParameterStore& from) -> std::unique_ptr<Module> {
    return std::make_unique<WithAuxiliaryLoss>(inner(from));
  };
  Transformer stage(modules, store, *context_, {}, nullptr);
  MicroBatch batch = Tokens(config.vocabulary());
  const auto run = [&](bool training) {
    batch.training = training;
    stage.Begin({batch});
    std::vector<Action> actions = BuildSchedule(ParallelConfig::ONE_F_ONE_B, 1, 1, 1, 0);
    if (!training) actions = ForwardOnly(actions);
    RunSchedule(actions, stage, *tensor_);
    double sum = 0;
    for (const double value : Get(*device_, stage.Losses().at(0))) sum += batch.loss_scale * value;
    for (const double value : Get(*device_, stage.Losses("auxiliary").at(0))) sum += value;
    return sum;
  };
  run(true);
  const std::string name = "blocks.0.mlp.down.weight";
  ExpectDerivative(store.Weight({name}), [&] { return run(false); }, Get(*device_, store.Gradient({name})), name);
  EXPECT_FALSE(stage.Losses("none").at(0).defined());
}

// Without training nothing is dropped.
TEST_F(LayersTest, NoDropoutOutsideTraining) {
  const ModelConfig config = Model(ModelConfig::GPT, 0.3f), plain = Model(ModelConfig::GPT);
  TokenEmbedding::Declare(config, 0, {}, &table_);
  const BlockPlace place = {.prefix = "blocks.0", .module = 1};
  Block::Declare(config, place, &table_);
  ParameterStore& store = Store();
  MicroBatch batch = Tokens(config.vocabulary());
  const auto output = [&](const ModelConfig& model) {
    ForwardPass pass;
    const Tensors x = TokenEmbedding(store, model, 0).Forward(*context_, batch, {}, &pass);
    return Get(*device_, Block(store, model, place).Forward(*context_, batch, x, &pass).front());
  };
  EXPECT_NE(output(config), output(plain));
  batch.training = false;
  EXPECT_EQ(output(config), output(plain));
}

// Masks are keyed by the sample's number in the run: the second sample of a micro-batch drops what it drops alone.
TEST_F(LayersTest, DropoutBelongsToTheSample) {
  const ModelConfig config = Model(ModelConfig::GPT, 0.3f);
  TokenEmbedding::Declare(config, 0, {}, &table_);
  const BlockPlace place = {.prefix = "blocks.0", .module = 1};
  Block::Declare(config, place, &table_);
  ParameterStore& store = Store();
  const TokenEmbedding embedding(store, config, 0);
  const Block block(store, config, place);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kRows; ++i) ids.push_back(static_cast<int32_t>(i % kTokens));  // twice the same
  const Batch both = MakeBatch(kTokens, 8, ids, ids);
  ids.resize(kTokens);
  const Batch second = MakeBatch(kTokens, 9, ids, ids);
  const auto output = [&](const Batch& batch) {
    const MicroBatch micro_batch = MakeMicroBatch(*device_, batch, /*training=*/true, 1);
    ForwardPass pass;
    const Tensors x = embedding.Forward(*context_, micro_batch, {}, &pass);
    return Get(*device_, block.Forward(*context_, micro_batch, x, &pass).front());
  };
  const Values together = output(both), alone = output(second);
  const size_t half = together.size() / 2;
  ExpectClose(Values(together.begin() + half, together.end()), alone, 1e-6, "second sample");
  EXPECT_NE(Values(together.begin(), together.begin() + half), alone) << "two samples drop the same";
}

// Each place that drops has a mask of its own.
TEST_F(LayersTest, MasksDiffer) {
  const MicroBatch batch = Tokens(5);
  std::set<uint64_t> keys;
  for (const char* site : {"embedding", "blocks.0.attention", "blocks.0.mlp", "blocks.1.mlp"}) {
    keys.insert(MaskOf(*context_, batch, 0.1f, site, kHidden).key);
  }
  EXPECT_EQ(keys.size(), 4u);
}

}  // namespace
}  // namespace trefoil
