// Every layer's backward against central differences of its forward, for its input and each of its weights. The loss is
// a random projection of the output, added up in double. One rank: what tensor ranks add is layouts_test.cc's.
#include "tests/model/layers_testing.h"

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
TEST_F(LayersTest, GeluMlp) { CheckMlp(ModelConfig::GPT, true); }
TEST_F(LayersTest, GeluMlpWithActivationDropped) { CheckMlp(ModelConfig::GPT, false); }
TEST_F(LayersTest, SwiGluMlp) { CheckMlp(ModelConfig::LLAMA, true); }
TEST_F(LayersTest, SwiGluMlpWithActivationDropped) { CheckMlp(ModelConfig::LLAMA, false); }
TEST_F(LayersTest, GptEmbedding) { CheckEmbedding(ModelConfig::GPT, 0); }
TEST_F(LayersTest, GptEmbeddingWithDropout) { CheckEmbedding(ModelConfig::GPT, 0.3f); }
TEST_F(LayersTest, LlamaEmbedding) { CheckEmbedding(ModelConfig::LLAMA, 0); }
TEST_F(LayersTest, TiedHead) { CheckHead(ModelConfig::GPT, true); }
TEST_F(LayersTest, UntiedHead) { CheckHead(ModelConfig::LLAMA, false); }
TEST_F(LayersTest, LlamaTiedHead) { CheckHead(ModelConfig::LLAMA, true); }
TEST_F(LayersTest, GptUntiedHead) { CheckHead(ModelConfig::GPT, false); }
TEST_F(LayersTest, GptBlock) { CheckBlock(ModelConfig::GPT, 0, ParallelConfig::NOTHING); }
TEST_F(LayersTest, LlamaBlock) { CheckBlock(ModelConfig::LLAMA, 0, ParallelConfig::NOTHING); }
TEST_F(LayersTest, GptBlockWithDropout) { CheckBlock(ModelConfig::GPT, 0.3f, ParallelConfig::NOTHING); }
TEST_F(LayersTest, GptBlockWithDropoutSelective) { CheckBlock(ModelConfig::GPT, 0.3f, ParallelConfig::SELECTIVE); }
TEST_F(LayersTest, GptBlockWithDropoutFull) { CheckBlock(ModelConfig::GPT, 0.3f, ParallelConfig::FULL); }
TEST_F(LayersTest, LlamaBlockFull) { CheckBlock(ModelConfig::LLAMA, 0, ParallelConfig::FULL); }

// With a large vocabulary the head takes a micro-batch in several chunks of rows (here 64, 64, 32): the same as if each
// sample came alone.
TEST_F(LayersTest, HeadInChunks) {
  ModelConfig config = Model(ModelConfig::LLAMA);
  config.set_vocabulary(300'001);
  config.set_hidden(4);
  Head::Declare(config, 0, &table_);
  ParameterStore& store = Store();
  const Head head(store, config);
  constexpr int64_t kLength = 40, kCount = 4;
  const Tensor x = RandomTensor({kCount * kLength, 4});
  const Tensor d_weight = store.Gradient({"head.output.weight"});
  const auto run = [&](int64_t first, int64_t count, Values* loss, Values* dx) {
    std::vector<int32_t> ids;
    for (int64_t row = first * kLength; row < (first + count) * kLength; ++row) {
      ids.push_back(static_cast<int32_t>(row * 7919 % config.vocabulary()));
    }
    const Batch batch = MakeBatch(kLength, first, ids, ids);
    const MicroBatch micro_batch = MakeMicroBatch(*device_, batch, /*training=*/true, 1);
    Head::Saved saved;
    head.Forward(*context_, micro_batch, x.Rows(first * kLength, (first + count) * kLength), &saved);
    for (const double value : Get(*device_, saved.loss)) loss->push_back(value);
    for (const double value : Get(*device_, head.Backward(*context_, saved))) dx->push_back(value);
  };
  Values loss, dx, losses, dxs;
  run(0, kCount, &loss, &dx);
  const Values gradient = Get(*device_, d_weight);
  Fill(*device_, d_weight, 0);
  for (int64_t i = 0; i < kCount; ++i) run(i, 1, &losses, &dxs);
  ExpectClose(loss, losses, 1e-6, "loss");
  ExpectClose(dx, dxs, 1e-5, "dx");
  ExpectClose(Get(*device_, d_weight), gradient, 1e-5, "d_weight");
  EXPECT_GT(RootMeanSquare(gradient), 1e-3);
}

// Without training nothing is dropped.
TEST_F(LayersTest, NoDropoutOutsideTraining) {
  const ModelConfig config = Model(ModelConfig::GPT, 0.3f), plain = Model(ModelConfig::GPT);
  TokenEmbedding::Declare(config, 0, 1, &table_);
  Block::Declare(config, 0, &table_);
  ParameterStore& store = Store();
  MicroBatch batch = Tokens(config.vocabulary());
  const auto output = [&](const ModelConfig& model) {
    Block::Saved saved;
    const Tensor x = TokenEmbedding(store, model).Forward(*context_, batch);
    return Get(*device_, Block(store, model, 0).Forward(*context_, batch, x, &saved));
  };
  EXPECT_NE(output(config), output(plain));
  batch.training = false;
  EXPECT_EQ(output(config), output(plain));
}

// Masks are keyed by the sample's number in the run: the second sample of a micro-batch drops what it drops alone.
TEST_F(LayersTest, DropoutBelongsToTheSample) {
  const ModelConfig config = Model(ModelConfig::GPT, 0.3f);
  TokenEmbedding::Declare(config, 0, 1, &table_);
  Block::Declare(config, 0, &table_);
  ParameterStore& store = Store();
  const TokenEmbedding embedding(store, config);
  const Block block(store, config, 0);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kRows; ++i) ids.push_back(static_cast<int32_t>(i % kTokens));  // twice the same
  const Batch both = MakeBatch(kTokens, 8, ids, ids);
  ids.resize(kTokens);
  const Batch second = MakeBatch(kTokens, 9, ids, ids);
  const auto output = [&](const Batch& batch) {
    const MicroBatch micro_batch = MakeMicroBatch(*device_, batch, /*training=*/true, 1);
    Block::Saved saved;
    return Get(*device_, block.Forward(*context_, micro_batch, embedding.Forward(*context_, micro_batch), &saved));
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
