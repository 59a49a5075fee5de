// What is said with keys and values kept, against what is said of whole prefixes.
#include "training/inference/kept_texts.h"

#include "tests/training/inference/predictor_testing.h"

namespace trefoil {
namespace {

using Part = KeptTexts::Tokens;

class KeptTextsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { SaveInitial(config_); }

  Batch First() const { return *GoldenBatches(golden_)(0, config_.training().global_batch()); }
  // Some tokens of a sample.
  static Part Of(const Batch& batch, int64_t text, int64_t sample, int64_t begin, int64_t end) {
    return {.text = text,
            .ids = FirstOf(batch.inputs, sample, end).subspan(static_cast<size_t>(begin))};
  }

  const Fixture golden_{std::string("tests/golden/") + GetParam() + ".safetensors"};
  const RunConfig config_ = GoldenConfig(golden_, "folder: '" + NewFolder() + "'");
};
INSTANTIATE_TEST_SUITE_P(Networks, KeptTextsTest, testing::Values("gpt", "llama", "qwen3", "mistral", "qwen2"),
                         [](const auto& info) { return std::string(info.param); });

// Whatever pieces they come in, with whatever others.
TEST_P(KeptTextsTest, AreAsWholePrefixes) {
  const Batch batch = First();
  const int64_t length = batch.length;
  ASSERT_GE(length, 8);
  std::vector<float> whole;
  OnLayout(config_, {}, [&](Predictor& predictor) { whole = predictor.Next(PrefixesOf(batch.inputs)).values; });
  const int64_t columns = config_.model().vocabulary();
  const auto expected = [&](int64_t sample, int64_t tokens) {
    return std::span(whole).subspan(static_cast<size_t>((sample * length + tokens - 1) * columns),
                                    static_cast<size_t>(columns));
  };
  for (const InferenceLayout& layout : {InferenceLayout(), InferenceLayout{.tensor = 2}, InferenceLayout{.pipeline = 2},
                                        InferenceLayout{.tensor = 2, .pipeline = 2}}) {
    SCOPED_TRACE(layout.tensor);
    SCOPED_TRACE(layout.pipeline);
    OnLayout(config_, layout, [&](Predictor& predictor) {
      KeptTexts texts(predictor, 3, length);
      // Beginnings of different lengths together.
      Rows rows = texts.Extend(std::vector<Part>{Of(batch, 2, 0, 0, 5), Of(batch, 0, 1, 0, 1), Of(batch, 1, 2, 0, 3)});
      ASSERT_EQ(rows.count(), 3);
      ExpectSameRows(rows[0], expected(0, 5), 2e-5);
      ExpectSameRows(rows[1], expected(1, 1), 2e-5);
      ExpectSameRows(rows[2], expected(2, 3), 2e-5);
      // A token of each, at different positions; then of two of them, one of several tokens.
      rows = texts.Extend(std::vector<Part>{Of(batch, 0, 1, 1, 2), Of(batch, 1, 2, 3, 4), Of(batch, 2, 0, 5, 6)});
      ExpectSameRows(rows[0], expected(1, 2), 2e-5);
      ExpectSameRows(rows[1], expected(2, 4), 2e-5);
      ExpectSameRows(rows[2], expected(0, 6), 2e-5);
      rows = texts.Extend(std::vector<Part>{Of(batch, 1, 2, 4, 5), Of(batch, 0, 1, 2, length)});
      ExpectSameRows(rows[0], expected(2, 5), 2e-5);
      ExpectSameRows(rows[1], expected(1, length), 2e-5);
      EXPECT_EQ(texts.length(0), length);
      EXPECT_EQ(texts.length(2), 6);
      // Cut, and another one's place taken.
      texts.Truncate(0, 2);
      texts.Copy(2, 1);
      rows = texts.Extend(std::vector<Part>{Of(batch, 0, 1, 2, 4), Of(batch, 1, 0, 6, 7), Of(batch, 2, 0, 6, 8)});
      ExpectSameRows(rows[0], expected(1, 4), 2e-5);
      ExpectSameRows(rows[1], expected(0, 7), 2e-5);
      ExpectSameRows(rows[2], expected(0, 8), 2e-5);
    });
  }
}

// Other tokens in the same places make another text: what is kept is looked at, and is what was cut no more.
TEST_P(KeptTextsTest, DependOnWhatIsKept) {
  const Batch batch = First();
  OnLayout(config_, {}, [&](Predictor& predictor) {
    KeptTexts texts(predictor, 1, batch.length);
    texts.Extend(std::vector<Part>{Of(batch, 0, 0, 0, 4)});
    const Rows one = texts.Extend(std::vector<Part>{Of(batch, 0, 0, 4, 5)});
    texts.Truncate(0, 0);
    texts.Extend(std::vector<Part>{Of(batch, 0, 1, 0, 4)});
    const Rows other = texts.Extend(std::vector<Part>{Of(batch, 0, 0, 4, 5)});
    double difference = 0;
    for (size_t i = 0; i < one.values.size(); ++i) difference += std::abs(one.values[i] - other.values[i]);
    EXPECT_GT(difference, 1e-3);
  });
}

TEST_P(KeptTextsTest, ScoresAreThoseOfTheBatch) {
  const Batch batch = First();
  const int64_t length = batch.length;
  const auto targets = [&](int64_t sample, int64_t begin, int64_t end) {
    return FirstOf(batch.targets, sample, end).subspan(static_cast<size_t>(begin));
  };
  for (const InferenceLayout& layout : {InferenceLayout(), InferenceLayout{.tensor = 2, .pipeline = 2}}) {
    OnLayout(config_, layout, [&](Predictor& predictor) {
      const std::vector<TokenScore> whole = predictor.Score(batch);
      KeptTexts texts(predictor, 2, length);
      const auto expect = [&](const std::vector<TokenScore>& scores, size_t at, int64_t sample, int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t, ++at) {
          const TokenScore& one = whole[static_cast<size_t>(sample * length + t)];
          EXPECT_NEAR(scores[at].log_probability, one.log_probability, 2e-5 * (1 - one.log_probability));
          EXPECT_EQ(scores[at].likeliest, one.likeliest);
        }
      };
      auto scores = texts.Score(std::vector<Part>{Of(batch, 0, 0, 0, 4), Of(batch, 1, 1, 0, length)},
                                std::vector{targets(0, 0, 4), targets(1, 0, length)});
      ASSERT_EQ(std::ssize(scores), 4 + length);
      expect(scores, 0, 0, 0, 4);
      expect(scores, 4, 1, 0, length);
      scores = texts.Score(std::vector<Part>{Of(batch, 0, 0, 4, length)}, std::vector{targets(0, 4, length)});
      expect(scores, 0, 0, 4, length);
    });
  }
}

// Longer than a piece: each text goes in pieces, beside others.
TEST(KeptTexts, LongOnesGoInPieces) {
  const int64_t length = KeptTexts::kPieceTokens + 40;
  RunConfig config = TinyRun(ModelConfig::LLAMA, "model { sequence_length: " + std::to_string(length) + " }");
  config.set_folder(NewFolder());
  SaveInitial(config);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>(i * 7 % config.model().vocabulary()));
  OnLayout(config, {}, [&](Predictor& predictor) {
    const std::span<const int32_t> all = ids, few = all.first(30);
    const Rows expected = predictor.Next(std::vector<Prefix>{{.ids = few}, {.ids = all}});
    KeptTexts texts(predictor, 2, length);
    const Rows rows = texts.Extend(std::vector<Part>{{.text = 1, .ids = few}, {.text = 0, .ids = all}});
    ASSERT_EQ(rows.count(), 2);
    for (const int64_t row : {0, 1}) ExpectSameRows(rows[row], expected[row], 2e-5);
    texts.Truncate(1, 0);
    const auto scores = texts.Score(std::vector<Part>{{.text = 1, .ids = all}}, std::vector{all});
    ASSERT_EQ(std::ssize(scores), length);
    EXPECT_NEAR(scores.back().log_probability, expected[1][static_cast<size_t>(ids.back())], 1e-4);
  });
}

// What is kept takes what was said beforehand, on the CPU as on the device that only counts.
TEST(KeptTexts, MemoryIsPlanned) {
  for (const InferenceLayout& layout :
       {InferenceLayout(), InferenceLayout{.tensor = 2, .pipeline = 2, .precision = TrainingConfig::BF16}}) {
    RunConfig config = TinyRun(ModelConfig::LLAMA, "model { layers: 4 kv_heads: 2 }");
    config.set_folder(NewFolder());
    SaveInitial(config);
    const std::vector<int32_t> ids = {1, 2, 3, 4, 5};
    const auto read = [&](Predictor& predictor) {
      KeptTexts texts(predictor, 3, 8);
      texts.Extend(std::vector<Part>{{.text = 0, .ids = ids}, {.text = 2, .ids = ids}});
      texts.Extend(std::vector<Part>{{.text = 0, .ids = std::span(ids).first(1)}});
      const MemoryUse use = predictor.device().memory();
      EXPECT_EQ(use.peak[static_cast<size_t>(Purpose::kCache)], KeptTexts::Bytes(config.model(), layout, 3, 8));
      return use;
    };
    OnLayout(config, layout, [&](Predictor& predictor) {
      predictor.device().arena().ResetPeak();
      const MemoryUse real = read(predictor);
      const int rank = predictor.rank();
      const auto device = NewNullDevice({.stands_for = NullDeviceOptions::StandsFor::kCpu});
      const auto world = NewNullWorld(layout.tensor * layout.pipeline, rank);
      Predictor planned(config.model(), layout, *world, *device);
      const MemoryUse counted = read(planned);
      EXPECT_EQ(counted.peak, real.peak) << rank;
    });
  }
}

}  // namespace
}  // namespace trefoil
