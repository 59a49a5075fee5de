// What a run trains on and is evaluated on: which text, whoever reads it, and what happens when it cannot be read.
#include "training/run_data.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>

#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"
#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

struct Opened {
  std::vector<int32_t> targets;  // of the evaluation, in order of its samples
  double entropy = 0;            // as rank 0 has it
  int readers = 0;               // ranks that opened files
};

Opened OpenOnAllRanks(const RunConfig& config) {
  Opened opened;
  std::mutex mutex;
  RunRanksAsThreads(RanksOf(config), [&](World& threads) {
    const TestWorld world(threads);
    const std::unique_ptr<Device> device = NewTestDevice();
    Worker worker(config, *world, *device);
    const auto data = OpenRunData(config, *worker.all);
    ASSERT_TRUE(data.ok()) << data.status();
    const auto entropy = TargetEntropy(*data, worker);
    ASSERT_TRUE(entropy.ok()) << entropy.status();
    const std::lock_guard lock(mutex);
    EXPECT_EQ(data->evaluation_samples, std::min(config.training().evaluate_samples(), 20));
    opened.readers += data->train.samples != nullptr ? 1 : 0;
    if (worker.all->rank() != 0) return;
    opened.entropy = *entropy;
    opened.targets = data->held_out.samples->Get(0, data->evaluation_samples)->targets.values<int32_t>();
  });
  return opened;
}

TEST(RunData, TheHeldOutTextIsThatOfEveryRun) {
  const std::string folder = NewFolder("run");
  const RunConfig config = TinyRun(folder, "data { held_out: '" + folder + "/held_out' } training { evaluate_samples: 7 }");
  const Opened reference = OpenOnAllRanks(config);
  ASSERT_EQ(reference.targets.size(), 7u * 16);
  std::map<int32_t, double> counts;
  for (const int32_t id : reference.targets) counts[id] += 1.0 / (7 * 16);
  double entropy = 0;
  for (const auto& [id, p] : counts) entropy -= p * std::log(p);
  EXPECT_NEAR(reference.entropy, entropy, 1e-12) << "of the same samples";
  EXPECT_NE(reference.targets, std::vector<int32_t>(reference.targets.rbegin(), reference.targets.rend()));
  for (const char* more :
       {"training { global_batch: 16 micro_batch: 4 seed: 99 }", "data { seed: 5 }", "parallel { data: 4 }",
        "parallel { tensor: 2 pipeline: 4 }", "parallel { tensor: 2 data: 2 pipeline: 2 }"}) {
    const RunConfig other = With(config, more);
    const Opened opened = OpenOnAllRanks(other);
    EXPECT_EQ(opened.targets, reference.targets) << more;
    EXPECT_EQ(opened.entropy, reference.entropy) << more;
    EXPECT_EQ(opened.readers, other.parallel().tensor() * other.parallel().data() * std::min(2, other.parallel().pipeline()));
  }
  // A larger number of samples has those of a smaller among its own; more than there are is all.
  const Opened all = OpenOnAllRanks(With(config, "training { evaluate_samples: 100 }"));
  ASSERT_EQ(all.targets.size(), 20u * 16);
  EXPECT_TRUE(std::equal(reference.targets.begin(), reference.targets.end(), all.targets.begin()));
  std::vector<int32_t> in_order = LearnableIds(20 * 16 + 1, 61, 2);
  in_order.erase(in_order.begin());
  EXPECT_NE(all.targets, in_order) << "the samples come in random order";
}

TEST(RunData, EpochsAndSourcesAreSaid) {
  const std::string folder = NewFolder("run");
  const RunConfig one = TinyRun(folder);
  WriteTokens(folder + "/more", LearnableIds(50 * 16 + 1, 61, 3), 61);
  const RunConfig two = With(one, "data { train: '" + folder + "/more' weights: 3 weights: 1 }");
  const RunOutcome outcome = RunTraining(With(one, "training { steps: 2 }"));
  EXPECT_NE(outcome.output.find("Data: 16 samples of 16 tokens from 100, 0.16 epochs.\n"), std::string::npos)
      << outcome.output;
  const RunOutcome mixed = RunTraining(With(two, "folder: '" + folder + "/mixed'"));
  for (const std::string& line :
       {std::string("Data: 160 samples of 16 tokens from 2 sources by weight:\n"),
        "   75.0%  " + folder + "/train: 100 samples, 1.2 epochs by the end\n",
        "   25.0%  " + folder + "/more: 50 samples, 0.8 epochs by the end\n"}) {
    EXPECT_NE(mixed.output.find(line), std::string::npos) << mixed.output << "\nlacks " << line;
  }
}

// Mixed sources are the same run on any layout and after a resume; other weights are another corpus.
TEST(RunData, AMixtureIsTheSameRunOnAnyLayoutAndAfterAResume) {
  const std::string folder = NewFolder("run");
  RunConfig config = TinyRun(folder, "model { layers: 2 } training { steps: 10 checkpoint { every_steps: 5 } }");
  WriteTokens(folder + "/more", LearnableIds(5 * 16 + 1, 61, 3), 61);  // through several epochs
  config = With(config, "data { train: '" + folder + "/more' weights: 0.6 weights: 0.4 }");
  ASSERT_TRUE(RunTraining(config).status.ok());
  const RunConfig stopped = With(config, "folder: '" + folder + "/stopped'");
  ASSERT_TRUE(RunAndStopAfter(stopped, 4).status.ok());
  ASSERT_TRUE(RunTraining(stopped).status.ok());
  ExpectSameToTheBit(config, stopped, 10);
  const RunConfig layout = With(config, "folder: '" + folder + "/layout' parallel { data: 4 pipeline: 2 }");
  ASSERT_TRUE(RunTraining(layout).status.ok());
  const std::vector<double> losses = Losses(config), others = Losses(layout);
  ASSERT_EQ(losses.size(), others.size());
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], others[i], 1e-5 * losses[i]) << i;
  const RunConfig unmixed = With(TinyRun(folder, "model { layers: 2 }"), "folder: '" + folder + "/unmixed' training { steps: 10 }");
  ASSERT_TRUE(RunTraining(unmixed).status.ok());
  EXPECT_NE(Losses(unmixed), losses);
  RunConfig weights = With(config, "training { steps: 11 }");
  weights.mutable_data()->set_weights(0, 0.7);
  const RunOutcome refused = RunTraining(weights);
  EXPECT_NE(refused.status.message().find("data.train"), std::string::npos) << refused.status;
}

// Somebody cuts a token file short, or writes into it, while the run reads it: an error on every rank that names it.
TEST(RunData, AFileThatChangesUnderTheRunIsNamed) {
  for (const bool cut : {true, false}) {
    const std::string folder = NewFolder(cut ? "cut" : "written");
    const RunConfig config =
        TinyRun(folder, "parallel { tensor: 2 data: 2 } training { steps: 200 checkpoint { every_steps: 2 } }");
    const std::string path = folder + "/train.bin";
    const RunOutcome outcome = RunTraining(config, [&](int rank, RankRun& run) {
      if (rank != 0) return;
      run.options.stop_requested = [=, step = -1]() mutable {
        if (++step == 5 && cut) std::filesystem::resize_file(path, 100);
        if (step == 5 && !cut) std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(50).put('\1');
        return false;
      };
    });
    EXPECT_TRUE(absl::IsDataLoss(outcome.status)) << outcome.status;
    EXPECT_NE(outcome.status.message().find(path + ": "), std::string::npos) << outcome.status;
    EXPECT_NE(outcome.status.message().find("changed while in use"), std::string::npos) << outcome.status;
    EXPECT_GE(NewestStep(config), 4);
    EXPECT_LT(Losses(config).size(), 10u) << "what was read ahead, and no more";
  }
}

}  // namespace
}  // namespace trefoil
