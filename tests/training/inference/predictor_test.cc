// Networks of every family, from a checkpoint, against the losses that PyTorch has of each target (tests/golden).
#include "training/inference/predictor.h"

#include "model/families/recipe.h"
#include "tests/training/inference/predictor_testing.h"
#include "training/inference/search.h"

namespace trefoil {
namespace {

class PredictorTest : public testing::TestWithParam<const char*> {
 protected:
  // In a folder of its own.
  RunConfig Config(const std::string& more = "") const {
    return GoldenConfig(golden_, "folder: '" + NewFolder() + "' " + more);
  }
  Batch First(const RunConfig& config) const { return *GoldenBatches(golden_)(0, config.training().global_batch()); }

  const Fixture golden_{std::string("tests/golden/") + GetParam() + ".safetensors"};
};

std::string NameOf(const testing::TestParamInfo<const char*>& info) { return info.param; }

// Row m has target m. The losses may be of training with label smoothing.
void ExpectLosses(const Rows& rows, const Batch& batch, const Values& losses, double smoothing = 0) {
  ASSERT_EQ(rows.count(), static_cast<int64_t>(losses.size()));
  for (size_t m = 0; m < losses.size(); ++m) {
    if (batch.weights.defined() && batch.weights.values<float>()[m] == 0) continue;
    const auto row = rows[static_cast<int64_t>(m)];
    double loss = 0;
    if (batch.targets.defined()) {
      const double each = smoothing / (static_cast<double>(row.size()) - 1);
      loss = -(1 - smoothing - each) * row[static_cast<size_t>(batch.targets.values<int32_t>()[m])];
      for (const float log_probability : row) loss -= each * log_probability;
    } else {
      for (size_t i = 0; i < row.size(); ++i) {
        const double difference = row[i] - batch.values.values<float>()[m * row.size() + i];
        loss += difference * difference / static_cast<double>(row.size());
      }
    }
    EXPECT_NEAR(loss, losses[m], 2e-5 * (1 + std::abs(losses[m]))) << "target " << m;
  }
}

class OutputsTest : public PredictorTest {};
INSTANTIATE_TEST_SUITE_P(Networks, OutputsTest,
                         testing::Values("bert", "modern_bert", "bert_classes", "vit", "mae", "lstm_classes"), NameOf);

TEST_P(OutputsTest, AreThoseOfTraining) {
  const RunConfig config = Config();
  WithPredictor(config, [&](Predictor& predictor) {
    const Batch batch = First(config);
    ExpectLosses(predictor.Outputs(batch), batch, golden_.Get("token_losses").values);
  });
}

class NextTest : public PredictorTest {};
INSTANTIATE_TEST_SUITE_P(Networks, NextTest, testing::Values("gpt", "llama", "rnn", "lstm"), NameOf);

TEST_P(NextTest, ProbabilitiesAreThoseOfTraining) {
  const RunConfig config = Config();
  WithPredictor(config, [&](Predictor& predictor) {
    const Batch batch = First(config);
    const std::vector<Prefix> prefixes = PrefixesOf(batch.inputs);
    const Rows rows = predictor.Next(prefixes);
    ExpectLosses(rows, batch, golden_.Get("token_losses").values);
    // Alone as among others.
    for (const size_t i : {size_t{0}, size_t{3}, prefixes.size() - 1}) {
      ExpectSameRows(predictor.Next(std::span(prefixes).subspan(i, 1))[0], rows[static_cast<int64_t>(i)]);
    }
    // A longer context is its last tokens.
    std::vector<int32_t> longer = {1, 2, 3};
    longer.insert(longer.end(), prefixes.back().ids.begin(), prefixes.back().ids.end());
    const Prefix prefix = {.ids = longer};
    ExpectSameRows(predictor.Next(std::span(&prefix, 1))[0], rows[rows.count() - 1]);
  });
}

TEST_P(NextTest, GreedyTextsAreTheLikeliestTokens) {
  const RunConfig config = Config();
  WithPredictor(config, [&](Predictor& predictor) {
    const Batch batch = First(config);
    std::vector<Tokens> beginnings;
    for (int64_t b = 0; b < 3; ++b) {
      const auto first = FirstOf(batch.inputs, b, 1 + b);
      beginnings.emplace_back(first.begin(), first.end());
    }
    const BeamOptions options = {.beam = 1, .end = 0, .at_limit = BeamOptions::AtLimit::kIsCut};
    const auto found = Continue(predictor, beginnings, options, 6);
    for (size_t b = 0; b < beginnings.size(); ++b) {
      Tokens ids = beginnings[b];
      for (int i = 0; i < 6; ++i) {
        const Prefix prefix = {.ids = ids};
        const Rows rows = predictor.Next(std::span(&prefix, 1));
        const auto best = std::max_element(rows.values.begin(), rows.values.end()) - rows.values.begin();
        if (best == 0) break;
        ids.push_back(static_cast<int32_t>(best));
      }
      ids.erase(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(beginnings[b].size()));
      EXPECT_EQ(found[b].front().ids, ids);
    }
  });
}

class MemoryTest : public PredictorTest {};
INSTANTIATE_TEST_SUITE_P(Networks, MemoryTest, testing::Values("transformer", "t5"), NameOf);

TEST_P(MemoryTest, ProbabilitiesAreThoseOfTraining) {
  const RunConfig config = Config();
  WithPredictor(config, [&](Predictor& predictor) {
    const Batch batch = First(config);
    const Predictor::Memory memory = predictor.Encode(batch);
    std::vector<Prefix> prefixes = PrefixesOf(batch.decoder_inputs);
    const Rows rows = predictor.Next(memory, prefixes);
    ExpectLosses(rows, batch, golden_.Get("token_losses").values, config.task().label_smoothing());
    // In any order, alone as among others.
    std::swap(prefixes.front(), prefixes.back());
    ExpectSameRows(predictor.Next(memory, prefixes)[0], rows[rows.count() - 1]);
    ExpectSameRows(predictor.Next(memory, std::span(prefixes).first(1))[0], rows[rows.count() - 1]);
  });
}

// A text alone, without the padding that the longest of a batch gives it, is what it is among others; and what comes
// out has the probability that is said.
TEST_P(MemoryTest, TranslationsAreOfEachSourceAlone) {
  const RunConfig config = Config();
  WithPredictor(config, [&](Predictor& predictor) {
    const Batch batch = First(config);
    const std::vector<int64_t> lengths = {3, 1, batch.length - 1};
    std::vector<Tokens> sources;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const auto first = FirstOf(batch.inputs, static_cast<int64_t>(i), lengths[i]);
      sources.emplace_back(first.begin(), first.end());
    }
    const BeamOptions options = {.beam = 3, .top = 2, .length_penalty = 0.6, .end = 2};
    const auto together = Translate(predictor, sources, options);
    for (size_t i = 0; i < sources.size(); ++i) {
      const auto alone = Translate(predictor, std::span(sources).subspan(i, 1), options)[0];
      ASSERT_EQ(alone.size(), 2u);
      for (size_t k = 0; k < alone.size(); ++k) {
        EXPECT_EQ(alone[k].ids, together[i][k].ids) << i;
        EXPECT_NEAR(alone[k].score, together[i][k].score, 1e-4) << i;
      }
      const Hypothesis& best = alone.front();
      ASSERT_TRUE(best.ended);
      Batch one = {.samples = 1, .length = static_cast<int64_t>(sources[i].size()) + 1};
      Tokens input = sources[i];
      input.push_back(2);
      one.inputs = HostTensor(input, {1, one.length});
      const Predictor::Memory memory = predictor.Encode(one);
      double sum = 0;
      Tokens ids = {2};
      for (size_t t = 0; t <= best.ids.size(); ++t) {
        const Prefix prefix = {.ids = ids};
        const int32_t next = t < best.ids.size() ? best.ids[t] : 2;
        sum += predictor.Next(memory, std::span(&prefix, 1))[0][static_cast<size_t>(next)];
        ids.push_back(next);
      }
      EXPECT_NEAR(sum, best.log_probability, 1e-4);
    }
    EXPECT_EQ(Translate(predictor, sources, options, 1)[0].front().ids.size(), 1u);
    EXPECT_TRUE(Translate(predictor, {}, options).empty());
  });
}

// Any layout says what one rank says.
class LayoutTest : public PredictorTest {
 protected:
  // All that a predictor says of a golden network's first samples, flat.
  std::vector<float> All(Predictor& predictor, const RunConfig& config) const {
    std::vector<float> all;
    const auto add = [&](const Rows& rows) { all.insert(all.end(), rows.values.begin(), rows.values.end()); };
    const Batch batch = First(config);
    if (batch.decoder_inputs.defined() && config.model().head() == ModelConfig::TOKENS) {
      const Predictor::Memory memory = predictor.Encode(batch);
      add(predictor.Next(memory, PrefixesOf(batch.decoder_inputs)));
    } else if (WritesFromLeft(config.model())) {
      add(predictor.Next(PrefixesOf(batch.inputs)));
    } else {
      add(predictor.Outputs(batch));
    }
    if (config.model().head() == ModelConfig::TOKENS) {
      for (const TokenScore& score : predictor.Score(batch)) {
        all.insert(all.end(), {score.log_probability, score.likeliest ? 1.0f : 0.0f});
      }
    }
    return all;
  }
  static bool WritesFromLeft(const ModelConfig& model) {
    const Recipe::Structure structure = RecipeOf(model).structure;
    return structure == Recipe::Structure::kDecoder || model.family() == ModelConfig::RNN ||
           (model.family() == ModelConfig::LSTM && model.head() == ModelConfig::TOKENS);
  }
};
INSTANTIATE_TEST_SUITE_P(Networks, LayoutTest,
                         testing::Values("gpt", "llama", "bert", "modern_bert", "bert_classes", "vit", "mae", "lstm",
                                         "lstm_classes", "transformer", "t5"),
                         NameOf);

TEST_P(LayoutTest, SaysWhatOneRankSays) {
  const RunConfig config = Config();
  SaveInitial(config);
  std::vector<float> one;
  OnLayout(config, {}, [&](Predictor& predictor) { one = All(predictor, config); });
  ASSERT_FALSE(one.empty());
  for (const InferenceLayout& layout : {InferenceLayout{.tensor = 2}, InferenceLayout{.pipeline = 2},
                                        InferenceLayout{.tensor = 2, .pipeline = 2}}) {
    SCOPED_TRACE(layout.tensor);
    SCOPED_TRACE(layout.pipeline);
    OnLayout(config, layout, [&](Predictor& predictor) { ExpectSameRows(All(predictor, config), one, 2e-5); });
  }
}

TEST_P(LayoutTest, InBFloat16IsNear) {
  const RunConfig config = Config();
  SaveInitial(config);
  std::vector<float> exact, near;
  const InferenceLayout bf16 = {.precision = TrainingConfig::BF16};
  OnLayout(config, {}, [&](Predictor& predictor) { exact = All(predictor, config); });
  OnLayout(config, bf16, [&](Predictor& predictor) {
    near = All(predictor, config);
    EXPECT_EQ(predictor.device().memory().current[static_cast<size_t>(Purpose::kOptimizer)], 0);
  });
  ASSERT_EQ(near.size(), exact.size());
  double sum = 0, squares = 0;
  for (size_t i = 0; i < near.size(); ++i) {
    sum += std::pow(near[i] - exact[i], 2);
    squares += std::pow(exact[i], 2);
  }
  EXPECT_LT(std::sqrt(sum / squares), 0.02);
  EXPECT_GT(std::sqrt(sum / squares), 1e-5);
}

// Scores are of the targets, whatever a batch's weights; ranks beyond the layout are copies that work for themselves.
TEST(Predictor, ScoresTheTargets) {
  const Fixture golden("tests/golden/llama.safetensors");
  const RunConfig config = GoldenConfig(golden, "folder: '" + NewFolder() + "'");
  const Batch batch = *GoldenBatches(golden)(0, config.training().global_batch());
  const Values losses = golden.Get("token_losses").values;
  SaveInitial(config);
  OnLayout(config, {.tensor = 2}, [&](Predictor& predictor) {
    EXPECT_EQ(predictor.copies(), 2);
    Batch some = batch;
    some.samples -= predictor.copy();
    const auto n = static_cast<size_t>(some.samples * some.length);
    for (HostTensor* x : {&some.inputs, &some.targets}) {
      std::vector<int32_t> values = x->values<int32_t>();
      values.resize(n);
      *x = HostTensor(std::move(values), {some.samples, some.length});
    }
    const std::vector<TokenScore> scores = predictor.Score(some);
    const Rows rows = predictor.Next(PrefixesOf(some.inputs));
    ASSERT_EQ(scores.size(), n);
    size_t likeliest = 0;
    for (size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(-scores[i].log_probability, losses[i], 2e-5 * (1 + losses[i]));
      const auto row = rows[static_cast<int64_t>(i)];
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      EXPECT_EQ(scores[i].likeliest, best == some.targets.values<int32_t>()[i]) << i;
      likeliest += scores[i].likeliest ? 1 : 0;
    }
    EXPECT_LT(likeliest, n);
  }, /*copies=*/2);
}

// The checkpoint is of another layout and precision.
TEST(Predictor, ReadsWhatManyRanksHaveSaved) {
  const Fixture golden("tests/golden/llama.safetensors");
  const auto rows_of = [&](const std::string& more) {
    Rows rows;
    WithPredictor(GoldenConfig(golden, "folder: '" + NewFolder() + "' " + more), [&](Predictor& predictor) {
      const Tokens ids = {1, 2, 3, 4};
      const Prefix prefix = {.ids = ids};
      rows = predictor.Next(std::span(&prefix, 1));
    });
    return rows.values;
  };
  const std::vector<float> one = rows_of("");
  EXPECT_EQ(rows_of("parallel { tensor: 2 pipeline: 2 } training { precision: BF16 }"), one);
}

TEST(Predictor, AMissingOrForeignCheckpointIsAnError) {
  const std::string folder = NewFolder();
  const Fixture golden("tests/golden/gpt.safetensors");
  const RunConfig config = GoldenConfig(golden, "folder: '" + folder + "'");
  WithPredictor(config, [&](Predictor& predictor) {
    EXPECT_TRUE(absl::IsNotFound(predictor.Load(FileSystem::Posix(), folder + "/nothing")));
  });
  RunRanksAsThreads(1, [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    ModelConfig wider = config.model();
    wider.set_feed_forward(2 * wider.feed_forward());
    Predictor other(wider, {}, world, *device);
    EXPECT_FALSE(other.Load(FileSystem::Posix(), CheckpointPath(CheckpointsFolder(config), 0)).ok());
  });
}

}  // namespace
}  // namespace trefoil
