#include "training/step.h"

#include <atomic>
#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "data/tokens/loader.h"
#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"
#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

// What each global step asked for: sample number -> its tokens, inputs then targets; and how often.
struct Sequence {
  std::vector<std::map<int64_t, std::vector<int32_t>>> steps;
  std::vector<std::map<int64_t, int>> times;
};

// Trains three steps and evaluates on a layout, recording what is read; the evaluation is the fourth entry.
Sequence Record(const RunConfig& config) {
  Sequence sequence;
  sequence.steps.resize(4);
  sequence.times.resize(4);
  std::mutex mutex;
  RunRanksAsThreads(RanksOf(config), [&](World& threads) {
    const TestWorld world(threads);
    const std::unique_ptr<Device> device = NewTestDevice();
    Worker worker(config, *world, *device);
    worker.store.Initialize(config.training().seed(), worker.groups);
    const auto loader = Loader::Open({config.data().train(0)}, config.model().sequence_length(),
                                     config.model().vocabulary(), config.data().seed());
    ASSERT_TRUE(loader.ok()) << loader.status();
    size_t step = 0;
    const BatchSource source = [&](int64_t first, int64_t count) {
      auto batch = (*loader)->Get(first, count);
      EXPECT_EQ(batch->first_sample, first);
      const std::lock_guard lock(mutex);
      for (int64_t row = 0; row < count; ++row) {
        const auto begin = static_cast<ptrdiff_t>(row * batch->length),
                   end = begin + static_cast<ptrdiff_t>(batch->length);
        const std::vector<int32_t>& inputs = batch->inputs.values<int32_t>();
        const std::vector<int32_t>& targets = batch->targets.values<int32_t>();
        std::vector<int32_t> tokens(inputs.begin() + begin, inputs.begin() + end);
        tokens.insert(tokens.end(), targets.begin() + begin, targets.begin() + end);
        const auto [known, is_new] = sequence.steps[step].emplace(first + row, tokens);
        EXPECT_EQ(known->second, tokens) << "two ranks see different tokens as sample " << first + row;
        ++sequence.times[step][first + row];
      }
      return batch;
    };
    for (; step < 3; ++step) {
      const auto first_sample = static_cast<int64_t>(step) * config.training().global_batch();
      EXPECT_TRUE(TrainStep(worker, source, static_cast<int64_t>(step) + 1, first_sample, 1e-3).ok());
    }
    EXPECT_TRUE(Evaluate(worker, source, 16).ok());
  });
  return sequence;
}

// Every step uses the same samples, each by exactly one replica, however many replicas there are.
TEST(TrainStep, TheSequenceOfSamplesIsTheSameForEveryDataSize) {
  const RunConfig config = TinyRun(NewFolder("run"), "model { layers: 4 }");
  const Sequence reference = Record(config);
  for (size_t step = 0; step < 3; ++step) {
    ASSERT_EQ(reference.steps[step].size(), 8u);
    EXPECT_EQ(reference.steps[step].begin()->first, static_cast<int64_t>(step) * 8);
    EXPECT_EQ(reference.steps[step].rbegin()->first, static_cast<int64_t>(step) * 8 + 7);
  }
  EXPECT_EQ(reference.steps[3].size(), 16u);
  std::set<std::vector<int32_t>> distinct;
  for (size_t step = 0; step < 3; ++step) {
    for (const auto& [number, tokens] : reference.steps[step]) distinct.insert(tokens);
  }
  EXPECT_EQ(distinct.size(), 24u) << "an epoch's samples must all be different";

  for (const char* layout :
       {"data: 2", "data: 4", "data: 8", "tensor: 2 pipeline: 2 data: 2", "pipeline: 2 data: 2 schedule: GPIPE",
        "tensor: 2 pipeline: 4"}) {
    for (const char* micro_batch : {"1", "2"}) {
      if (layout == std::string("data: 8") && micro_batch == std::string("2")) continue;
      const RunConfig other =
          With(config, std::string("parallel { ") + layout + " } training { micro_batch: " + micro_batch + " }");
      SCOPED_TRACE(other.ShortDebugString());
      const Sequence sequence = Record(other);
      EXPECT_EQ(sequence.steps, reference.steps);
      // The stages in the middle look at no token, and read none.
      const int ranks_of_a_replica = other.parallel().tensor() * std::min(2, other.parallel().pipeline());
      for (const auto& times : sequence.times) {
        for (const auto& [number, count] : times) EXPECT_EQ(count, ranks_of_a_replica) << "sample " << number;
      }
    }
  }
}

// The mean over any number of samples, of whole batches or not, and whatever the layout.
TEST(Evaluate, AnyNumberOfSamplesIsTheirMean) {
  const RunConfig config = TinyRun(NewFolder("run"));
  const auto loader = Loader::Open({config.data().train(0)}, 16, 61, 7);
  ASSERT_TRUE(loader.ok());
  std::set<int64_t> read;
  std::mutex mutex;
  const BatchSource source = [&](int64_t first, int64_t count) {
    const std::lock_guard lock(mutex);
    for (int64_t i = 0; i < count; ++i) read.insert(first + i);
    return (*loader)->Get(first, count);
  };
  const auto evaluate = [&](const RunConfig& run, int64_t samples) {
    double loss = 0;
    read.clear();
    RunRanksAsThreads(RanksOf(run), [&](World& threads) {
      const TestWorld world(threads);
      const std::unique_ptr<Device> device = NewTestDevice();
      Worker worker(run, *world, *device);
      worker.store.Initialize(1, worker.groups);
      const auto evaluated = Evaluate(worker, source, samples);
      ASSERT_TRUE(evaluated.ok()) << evaluated.status();
      if (world->rank() == 0) loss = evaluated->loss;
    });
    EXPECT_EQ(read.size(), static_cast<size_t>(samples));
    EXPECT_EQ(*read.rbegin(), samples - 1);
    return loss;
  };
  const RunConfig one = With(config, "training { global_batch: 1 }");  // what is counted is all there is
  for (const int64_t samples : {1, 7, 8, 9, 19}) {
    const double expected = evaluate(one, samples);
    for (const char* more : {"", "training { micro_batch: 4 }", "parallel { data: 8 }",
                             "parallel { tensor: 2 data: 2 pipeline: 2 sequence_parallel: true } training { micro_batch: 2 }",
                             "parallel { pipeline: 4 }", "training { global_batch: 32 micro_batch: 8 }"}) {
      EXPECT_NEAR(evaluate(With(config, more), samples), expected, 1e-6 * expected) << samples << " " << more;
    }
  }
}

// One rank's data cannot be read: every rank is told so, and the ranks still agree afterwards.
TEST(TrainStep, AnErrorOfOneRankReachesAll) {
  const RunConfig config = TinyRun(NewFolder("run"), "model { layers: 2 } parallel { tensor: 2 pipeline: 2 data: 2 }");
  for (int bad_rank = 0; bad_rank < 8; ++bad_rank) {
    std::atomic<int> told = 0;
    RunRanksAsThreads(8, [&](World& threads) {
      threads.set_timeout_seconds(60);
      const TestWorld world(threads);
      const std::unique_ptr<Device> device = NewTestDevice();
      Worker worker(config, *world, *device);
      worker.store.Initialize(1, worker.groups);
      const BatchSource zeros = ZerosSource(config);
      // The last micro-batch, so that the ones before are already read.
      int calls = 0;
      const BatchSource source = [&](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
        if (world->rank() == bad_rank && ++calls == worker.micro_batches()) return absl::DataLossError("bad disk");
        return zeros(first, count);
      };
      const absl::Status expected =
          absl::DataLossError((bad_rank == 0 ? "" : "rank " + std::to_string(bad_rank) + " on localhost: ") + "bad disk");
      if (TrainStep(worker, source, 1, 0, 1e-3).status() == expected) ++told;
      calls = 0;
      if (Evaluate(worker, source, 8).status() == expected) ++told;
      if (TrainStep(worker, zeros, 1, 0, 1e-3).ok()) ++told;
    });
    EXPECT_EQ(told, 24) << "bad rank " << bad_rank;
  }
}

// A loss that is not finite changes no parameter, and names its step.
TEST(TrainStep, ANaNLeavesTheParametersAsTheyWere) {
  for (const char* layout : {"data: 1", "tensor: 2 pipeline: 2 data: 2"}) {
    const RunConfig config = TinyRun(NewFolder("run"), std::string("parallel { ") + layout + " }");
    std::atomic<int> told = 0;
    RunRanksAsThreads(RanksOf(config), [&](World& threads) {
      const TestWorld world(threads);
      const std::unique_ptr<Device> device = NewTestDevice();
      Worker worker(config, *world, *device);
      worker.store.Initialize(1, worker.groups);
      // One element, on the ranks of the first stage that hold it.
      const float nan = NAN;
      if (worker.place.stage == 0) device->Upload(&nan, worker.store.Weight({"embedding.token.weight"}).Range(0, {1}));
      const auto state = [&] {
        std::string bytes;
        for (int i = 0; i < worker.store.state_parts(); ++i) {
          const auto part = worker.store.State(i, ParameterStore::Elements::kHeld);
          for (const ShardedTensor& slice : part.slices) {
            bytes.append(reinterpret_cast<const char*>(slice.data), static_cast<size_t>(slice.bytes()));
          }
        }
        return bytes;
      };
      const std::string before = state();
      const auto result = TrainStep(worker, ZerosSource(config), 17, 0, 1e-3);
      const std::string message(result.status().message());
      // Or "-nan".
      const bool named = message.starts_with("step 17: the loss is ") && message.find("nan, must be finite") < 25;
      if (absl::IsDataLoss(result.status()) && named) ++told;
      EXPECT_TRUE(state() == before);
    });
    EXPECT_EQ(told, RanksOf(config)) << layout;
  }
}

// Rank 2 computes slowly, and rank 1 reads slowly: rank 0 hears who holds the others up, by which of the two.
TEST(TrainStep, RankZeroHearsWhichRankIsSlow) {
  const RunConfig config = TinyRun(NewFolder("run"), "model { layers: 2 } parallel { data: 4 }");
  RunRanksAsThreads(
      RanksOf(config),
      [&](World& threads) {
        const TestWorld world(threads);
        const std::unique_ptr<Device> device = NewTestDevice();
        Worker worker(config, *world, *device);
        worker.store.Initialize(config.training().seed(), worker.groups);
        const BatchSource zeros = ZerosSource(config);
        const auto sleep = [] { std::this_thread::sleep_for(std::chrono::milliseconds(300)); };
        const BatchSource source = [&](int64_t first, int64_t count) {
          if (world->rank() == 1 && first % 2 == 0) sleep();
          return zeros(first, count);
        };
        worker.observer = [&, slept = false](StepPart, const Action*) mutable {
          if (world->rank() == 2 && !std::exchange(slept, true)) sleep();
        };
        const auto result = TrainStep(worker, source, /*step=*/1, /*first_sample=*/0, 1e-3);
        ASSERT_TRUE(result.ok()) << result.status();
        if (world->rank() > 0) return;
        EXPECT_EQ(result->ranks.slowest, 2);
        EXPECT_EQ(result->ranks.slowest_host, "b");
        EXPECT_GT(result->ranks.slowest_work_seconds, 0.25);
        EXPECT_LT(result->ranks.median_work_seconds, 0.2);
        EXPECT_GT(result->ranks.data_seconds, 0.25);
        EXPECT_GT(result->communication_seconds, 0.2) << "rank 0 waits for both";
        EXPECT_GE(result->ranks.reserved_bytes, static_cast<double>(device->memory().reserved));
        EXPECT_GT(result->ranks.resident_bytes, 1 << 20);
      },
      {.hosts = {"a", "a", "b", "b"}});
}

}  // namespace
}  // namespace trefoil
