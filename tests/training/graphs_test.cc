// runtime.graphs: steps replayed from a recording give the bits that steps give without.
#include <cmath>
#include <set>

#include "checkpoint/directory.h"
#include "data/tokens/loader.h"
#include "parallel/collectives/nccl/nccl.h"
#include "runtime/ops.h"
#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"
#include "tests/training/run_testing.h"
#include "training/saving/resume.h"
#include "training/step.h"

namespace trefoil {
namespace {

// A run of one rank that may be recorded, whatever its device.
RunConfig OneRank(const std::string& more, RuntimeConfig::Graphs graphs) {
  RunConfig config = TinyRun(NewFolder("run"), "model { layers: 2 } training { micro_batch: 2 global_batch: 4 } " + more);
  config.mutable_runtime()->set_device(OnGpu() ? RuntimeConfig::CUDA : RuntimeConfig::CPU);
  config.mutable_runtime()->set_messages(RuntimeConfig::HOST);
  config.mutable_runtime()->set_graphs(graphs);
  return config;
}

// One rank: alone on the test's device, or of a world of GPUs.
class Rank {
 public:
  explicit Rank(const RunConfig& config) : Rank(config, NewTestDevice(), NewStagedWorld(Alone())) {}
  Rank(const RunConfig& config, std::unique_ptr<Device> device, std::unique_ptr<World> world)
      : config_(config),
        device_(std::move(device)),
        world_(std::move(world)),
        worker_(std::make_unique<Worker>(config_, *world_, *device_)),
        loader_(*Loader::Open({config.data().train(0)}, config.model().sequence_length(), config.model().vocabulary(),
                              config.data().seed())) {
    worker_->store.Initialize(config_.training().seed(), worker_->groups);
  }
  Worker& worker() { return *worker_; }
  Device& device() { return *device_; }

  // Steps first to last; appends their losses and gradient norms.
  void Steps(int first, int last, std::vector<double>* numbers) {
    const BatchSource source = [&](int64_t sample, int64_t count) { return loader_->Get(sample, count); };
    for (int step = first; step <= last; ++step) {
      const auto result = TrainStep(*worker_, source, step, (step - 1) * int64_t{config_.training().global_batch()}, 3e-3);
      ASSERT_TRUE(result.ok()) << result.status();
      numbers->insert(numbers->end(), {result->loss, result->gradient_norm});
    }
  }
  double HeldOut() {
    const auto loss = Evaluate(
        *worker_, [&](int64_t sample, int64_t count) { return loader_->Get(sample, count); },
        2 * config_.training().global_batch());
    EXPECT_TRUE(loss.ok()) << loss.status();
    return loss.ok() ? loss->loss : NAN;
  }
  std::string Bytes() {
    std::string bytes;
    for (int i = 0; i < worker_->store.state_parts(); ++i) {
      const auto part = worker_->store.State(i, ParameterStore::Elements::kHeld);
      for (const ShardedTensor& slice : part.slices) {
        bytes.append(reinterpret_cast<const char*>(slice.data), static_cast<size_t>(slice.bytes()));
      }
    }
    return bytes;
  }

 private:
  static World& Alone() {
    static World* const world = NewNullWorld(1, 0).release();
    return *world;
  }

  const RunConfig config_;
  const std::unique_ptr<Device> device_;
  const std::unique_ptr<World> world_;
  const std::unique_ptr<Worker> worker_;
  const std::unique_ptr<Loader> loader_;
};

// Of five steps, with an evaluation after the third.
struct Outcome {
  std::vector<double> numbers;
  std::string bytes;
};
Outcome OutcomeOf(const RunConfig& config) {
  Rank rank(config);
  Outcome outcome;
  rank.Steps(1, 3, &outcome.numbers);
  outcome.numbers.push_back(rank.HeldOut());
  rank.Steps(4, 5, &outcome.numbers);
  outcome.bytes = rank.Bytes();
  EXPECT_LT(outcome.numbers[outcome.numbers.size() - 2], outcome.numbers[0]) << "it learns nothing";
  return outcome;
}

// On the CPU, which cannot record, the ops are called as ever.
TEST(Graphs, NoBitDependsOnThem) {
  for (const char* more :
       {"", "model { family: GPT } training { precision: BF16 }",
        "parallel { recompute: FULL } training { micro_batch: 4 }", "parallel { recompute: SELECTIVE }"}) {
    SCOPED_TRACE(more);
    const Outcome off = OutcomeOf(OneRank(more, RuntimeConfig::OFF)), on = OutcomeOf(OneRank(more, RuntimeConfig::ON));
    EXPECT_EQ(on.numbers, off.numbers);
    EXPECT_TRUE(on.bytes == off.bytes);
  }
}

class RecordedTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!OnGpu()) GTEST_SKIP() << "the CPU device does not record; TREFOIL_TEST_DEVICE=cuda runs this on GPU 0";
  }
};

TEST_F(RecordedTest, TheSecondStepRecordsAndLaterOnesTakeNoMemory) {
  Rank off(OneRank("", RuntimeConfig::OFF)), on(OneRank("", RuntimeConfig::ON));
  std::vector<double> numbers;
  off.Steps(1, 4, &numbers);
  on.Steps(1, 1, &numbers);
  EXPECT_EQ(on.worker().recorded.recording, nullptr);
  on.Steps(2, 2, &numbers);
  ASSERT_NE(on.worker().recorded.recording, nullptr);
  const int64_t acquisitions = on.device().arena().acquisitions();
  EXPECT_LE(acquisitions, off.device().arena().acquisitions() + 4);
  EXPECT_LE(on.device().memory().peak_total, off.device().memory().peak_total);
  on.Steps(3, 5, &numbers);
  on.HeldOut();
  const int64_t evaluated = on.device().arena().acquisitions();
  on.Steps(6, 8, &numbers);
  on.HeldOut();
  EXPECT_EQ(on.device().arena().acquisitions(), evaluated);
  EXPECT_EQ(off.worker().recorded.recording, nullptr);
}

// A step under observation is not replayed: its ops are all seen, and the ones after it are as ever.
TEST_F(RecordedTest, AnObserverSeesEveryOp) {
  Rank rank(OneRank("", RuntimeConfig::ON)), unobserved(OneRank("", RuntimeConfig::ON));
  std::vector<double> numbers, expected;
  unobserved.Steps(1, 6, &expected);
  rank.Steps(1, 3, &numbers);
  std::set<std::string> ops;
  rank.device().Observe([&](const OpCount& count, std::chrono::steady_clock::time_point) { ops.insert(count.op); });
  rank.Steps(4, 4, &numbers);
  rank.device().Observe(nullptr);
  EXPECT_TRUE(ops.contains("matmul") && ops.contains("attention_backward"));
  rank.Steps(5, 6, &numbers);
  EXPECT_EQ(numbers, expected);
}

TEST_F(RecordedTest, AResumedRunGoesOnToTheBit) {
  const RunConfig config = OneRank("training { precision: BF16 }", RuntimeConfig::ON);
  std::vector<double> expected, numbers;
  Rank whole(config);
  whole.Steps(1, 6, &expected);
  TrainerState state;
  state.set_step(3);
  {
    Rank first(config);
    first.Steps(1, 3, &numbers);
    ASSERT_TRUE(SaveCheckpoint(FileSystem::Posix(), first.worker(), CheckpointsFolder(config), state, "test", nullptr).ok());
  }
  Rank second(config);
  const std::string folder = CheckpointPath(CheckpointsFolder(config), 3);
  ASSERT_TRUE(LoadCheckpoint(FileSystem::Posix(), second.worker(), folder, /*weights_only=*/false).ok());
  second.Steps(4, 6, &numbers);
  EXPECT_EQ(numbers, expected);
  EXPECT_TRUE(whole.Bytes() == second.Bytes());
}

// NCCL's messages among the tensor ranks are recorded with the rest.
TEST_F(RecordedTest, TensorRanks) {
  if (TestMessages() != Messages::kNccl) GTEST_SKIP() << "needs TREFOIL_TEST_MESSAGES=NCCL";
  for (const char* more :
       {"", "parallel { sequence_parallel: true } model { family: GPT }", "runtime { sums: FASTEST }",
        "parallel { sequence_parallel: true } runtime { sums: FASTEST } training { precision: BF16 }"}) {
    SCOPED_TRACE(more);
    std::vector<double> numbers[2];  // without and with
    for (const bool on : {false, true}) {
      RunConfig config = OneRank(std::string(more) + " parallel { tensor: 2 data: 1 }",
                                 on ? RuntimeConfig::ON : RuntimeConfig::OFF);
      config.mutable_runtime()->set_messages(RuntimeConfig::NCCL);
      RunRanksAsThreads(2, [&](World& host) {
        Rank rank(config, NewTestDevice(), *NewNcclWorld(host));
        std::vector<double> mine;
        rank.Steps(1, 3, &mine);
        mine.push_back(rank.HeldOut());
        rank.Steps(4, 4, &mine);
        EXPECT_EQ(rank.worker().recorded.recording != nullptr, on);
        if (host.rank() == 0) numbers[on] = mine;
      });
    }
    EXPECT_EQ(numbers[1], numbers[0]);
  }
}

}  // namespace
}  // namespace trefoil
