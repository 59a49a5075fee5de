// Networks of every family, from a checkpoint, against the losses that PyTorch has of each target (tests/golden).
#include "training/inference/predictor.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "checkpoint/directory.h"
#include "tests/model/golden_testing.h"
#include "training/inference/search.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

std::string NewFolder() {
  std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
  std::replace(name.begin(), name.end(), '/', '_');
  const std::string folder = testing::TempDir() + "/" + name;
  std::filesystem::remove_all(folder);
  return folder;
}

// A predictor of what a run's `ranks` have saved of their initial weights.
void WithPredictor(const RunConfig& config, const std::function<void(Predictor&)>& body) {
  WithWorkers(config, [&](Worker& worker) {
    const absl::Status saved =
        SaveCheckpoint(FileSystem::Posix(), worker, CheckpointsFolder(config), TrainerState(), "test", [] { return absl::OkStatus(); });
    ASSERT_TRUE(saved.ok()) << saved;
  });
  RunRanksAsThreads(1, [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    Predictor predictor(config.model(), world, *device);
    const absl::Status loaded = predictor.Load(FileSystem::Posix(), CheckpointPath(CheckpointsFolder(config), 0));
    ASSERT_TRUE(loaded.ok()) << loaded;
    body(predictor);
  });
}

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

// Sample b's first n tokens.
std::span<const int32_t> FirstOf(const HostTensor& ids, int64_t sample, int64_t n) {
  return std::span(ids.values<int32_t>()).subspan(static_cast<size_t>(sample * ids.shape()[1]), static_cast<size_t>(n));
}

// Every prefix of every sample.
std::vector<Prefix> PrefixesOf(const HostTensor& ids) {
  std::vector<Prefix> prefixes;
  for (int64_t b = 0; b < ids.shape()[0]; ++b) {
    for (int64_t n = 1; n <= ids.shape()[1]; ++n) prefixes.push_back({.text = b, .ids = FirstOf(ids, b, n)});
  }
  return prefixes;
}

void ExpectSameRows(std::span<const float> row, std::span<const float> expected) {
  ASSERT_EQ(row.size(), expected.size());
  for (size_t i = 0; i < row.size(); ++i) EXPECT_NEAR(row[i], expected[i], 1e-5 * (1 + std::abs(expected[i])));
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
    Predictor other(wider, world, *device);
    EXPECT_FALSE(other.Load(FileSystem::Posix(), CheckpointPath(CheckpointsFolder(config), 0)).ok());
  });
}

}  // namespace
}  // namespace trefoil
