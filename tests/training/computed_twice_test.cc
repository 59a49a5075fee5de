// training.compute_twice_every_steps: what is computed wrong once is found, whatever it is, and nothing else is.
#include "training/computed_twice.h"

#include <gmock/gmock.h>

#include <atomic>
#include <mutex>

#include "tests/parallel/flipping_world.h"
#include "tests/parallel/test_world.h"
#include "tests/runtime/flip_bit.h"
#include "tests/runtime/test_device.h"
#include "tests/training/run_testing.h"
#include "training/step.h"

namespace trefoil {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

absl::StatusOr<Batch> LearnableBatch(int64_t first, int64_t count) {
  const std::vector<int32_t> ids = LearnableIds(count * 16, 61, static_cast<uint64_t>(first));
  const HostTensor tokens(ids, {count, 16});
  return Batch{.samples = count, .length = 16, .first_sample = first, .inputs = tokens, .targets = tokens};
}

// What goes wrong, once, in a step that is computed twice.
struct Fault {
  // In what a message has brought to rank `rank`: the number-th time that this group's operation brings something.
  std::string group = {}, operation = {};
  int number = 0;
  // In the memory of that rank: before the number-th action of the step.
  std::function<Tensor(Worker&)> memory = {};
  int rank = 0;
  int bit = 3;
};

// A step, then one that is computed twice with that fault: its status, the same on every rank.
absl::Status StepWith(const std::string& layout, const Fault& fault) {
  const RunConfig config = TinyRun(NewFolder("run"), layout);
  std::vector<absl::Status> statuses(static_cast<size_t>(RanksOf(config)));
  std::atomic<int> faults = 0;
  RunRanksAsThreads(RanksOf(config), [&](World& threads) {
    threads.set_timeout_seconds(60);
    const TestWorld staged(threads);
    const std::unique_ptr<Device> device = NewTestDevice();
    const bool here = threads.rank() == fault.rank;
    std::atomic<bool> armed = false;
    std::mutex mutex;
    int arrived = 0, acted = 0;
    FlippingWorld world(*staged, [&](const std::string& group, const char* operation, const Tensor& result) {
      const std::lock_guard lock(mutex);
      if (!here || !armed || group != fault.group || operation != fault.operation || arrived++ != fault.number) return;
      FlipBit(*device, result, result.elements() / 2, fault.bit);
      ++faults;
    });
    Worker worker(config, world, *device);
    worker.store.Initialize(1, worker.groups);
    CHECK(TrainStep(worker, BatchSource(LearnableBatch), 1, 8, 1e-3).ok());
    worker.observer = [&](StepPart, const Action* action) {
      if (!here || !armed || !fault.memory || action == nullptr || acted++ != fault.number) return;
      const Tensor x = fault.memory(worker);
      FlipBit(*device, x, x.elements() / 2, fault.bit);
      ++faults;
    };
    armed = true;
    StepHooks hooks;
    hooks.compute_twice = true;
    statuses[static_cast<size_t>(threads.rank())] =
        TrainStep(worker, BatchSource(LearnableBatch), 2, 16, 1e-3, 0, hooks).status();
  });
  for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]);
  EXPECT_EQ(faults, fault.memory || !fault.group.empty() ? 1 : 0) << "the fault did not happen";
  return statuses[0];
}

// Of the bucket with this parameter, the gradients that its rank adds to.
std::function<Tensor(Worker&)> GradientOf(const std::string& name) {
  return [name](Worker& worker) {
    for (const BucketMemory& memory : worker.store.buckets()) {
      for (const BucketEntry& entry : memory.bucket.entries) {
        if (entry.parameter->name == name) return memory.gradients.Range(entry.begin, {entry.box.extent.elements()});
      }
    }
    return Tensor();
  };
}
std::function<Tensor(Worker&)> WeightOf(const std::string& name) {
  return [name](Worker& worker) {
    for (const BucketMemory& memory : worker.store.buckets()) {
      for (const BucketEntry& entry : memory.bucket.entries) {
        if (entry.parameter->name == name) return memory.weights.Range(entry.begin, {entry.box.extent.elements()});
      }
    }
    return Tensor();
  };
}

struct Case {
  const char* what;
  const char* layout;
  Fault fault;
  std::vector<std::string> found;      // in the message
  std::vector<std::string> not_found;  // the ranks that are blameless
};

const std::vector<Case>& Cases() {
  static const auto* const cases = new std::vector<Case>{
      {"a gradient before its sum, on the rank that adds it up",
       "parallel { data: 4 }",
       {.number = 3, .memory = GradientOf("blocks.2.mlp.up.weight"), .rank = 2},
       {"gradient of blocks.2.mlp.up.weight on rank 2 on "},
       {"rank 0", "rank 1", "rank 3"}},
      {"the same where all ranks have the sum",
       "parallel { data: 4 zero: NONE } training { precision: BF16 }",
       {.number = 3, .memory = GradientOf("blocks.2.mlp.up.weight"), .rank = 2},
       {"gradient of blocks.2.mlp.up.weight on rank 2 on "},
       {"rank 0", "rank 1", "rank 3"}},
      {"a gradient after its sum, which no other rank has",
       "parallel { data: 4 }",
       {.group = "data", .operation = "ReduceScatterSum", .number = 2, .rank = 3},
       {"sum over data ranks of the gradient of blocks.", " on rank 3 on "},
       {"rank 0", "rank 1", "rank 2"}},
      {"a gradient after its sum, which the others have too",
       "parallel { data: 4 zero: NONE }",
       {.group = "data", .operation = "AllReduceSum", .number = 2, .rank = 3},
       {"sum over data ranks of the gradient of blocks.", " on rank 3 on "},
       {"rank 0", "rank 1", "rank 2"}},
      {"a gradient of a split one",
       "parallel { data: 2 zero: GRADIENTS }",
       {.group = "data", .operation = "ReduceScatterSum", .number = 5, .rank = 1},
       {"sum over data ranks of the gradient of ", " on rank 1 on "},
       {"rank 0"}},
      {"a message of weights that are gathered",
       "parallel { data: 2 zero: WEIGHTS }",
       {.group = "data", .operation = "AllGather", .number = 2, .rank = 1, .bit = 20},
       {"output of blocks.1.", "micro-batch 0 on rank 1 on "},
       {"rank 0"}},
      {"a message between tensor ranks",
       "parallel { tensor: 2 data: 2 }",
       {.group = "tensor", .operation = "AllReduceSum", .number = 2, .rank = 3, .bit = 20},
       {"output of blocks.0.mlp, micro-batch 0 on rank 3 on "},
       {"rank 0", "rank 1", "rank 2"}},
      {"an activation that a stage receives",
       "parallel { pipeline: 4 }",
       {.group = "pipeline", .operation = "Receive", .number = 0, .rank = 2, .bit = 20},
       {"output of blocks.2.attention_norm, micro-batch 0 on rank 2 on "},
       {"rank 0", "rank 1", "rank 3"}},
      {"a gradient that a stage receives",
       "parallel { pipeline: 2 }",
       {.group = "pipeline", .operation = "Receive", .number = 1, .rank = 0, .bit = 20},
       {"gradient of the input of blocks.1.", "micro-batch 1 on rank 0 on "},
       {"rank 1"}},
      {"a weight",
       "parallel { data: 2 }",
       {.number = 8, .memory = WeightOf("blocks.3.attention.k.weight"), .rank = 1, .bit = 20},
       {"output of blocks.3.attention, micro-batch ", " on rank 1 on "},
       {"rank 0"}},
  };
  return *cases;
}

TEST(ComputeTwice, WhatIsWrongOnceIsNamed) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.what);
    EXPECT_EQ(StepWith(c.layout, {}), absl::OkStatus());
    const absl::Status status = StepWith(c.layout, c.fault);
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    const std::string message(status.message());
    EXPECT_THAT(message, HasSubstr("step 2 has not given the same bits twice; "));
    for (const std::string& part : c.found) EXPECT_THAT(message, HasSubstr(part));
    for (const std::string& rank : c.not_found) EXPECT_THAT(message, Not(HasSubstr(rank + " on "))) << message;
  }
}

// Whatever a step is made of: no false alarm, and the numbers of a run that does not look.
TEST(ComputeTwice, ChangesNothing) {
  for (const char* more :
       {"parallel { data: 2 }", "model { family: GPT dropout: 0.1 } training { precision: BF16 micro_batch: 2 }",
        "parallel { tensor: 2 pipeline: 2 data: 2 zero: GRADIENTS schedule: GPIPE }",
        "parallel { data: 2 zero: WEIGHTS recompute: FULL } training { precision: BF16 }",
        "model { family: GPT tied: true } parallel { pipeline: 2 schedule: ZB_V }",
        "parallel { context: 2 } training { gradient_groups: 2 }",
        "model { family: LSTM } parallel { tensor: 2 }"}) {
    SCOPED_TRACE(more);
    const RunConfig once = TinyRun(NewFolder("run"), std::string("training { steps: 4 } ") + more);
    const RunConfig twice =
        With(once, "folder: '" + once.folder() + "_twice' training { compute_twice_every_steps: 1 }");
    ASSERT_TRUE(RunTraining(once).status.ok());
    const RunOutcome outcome = RunTraining(twice);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ExpectSameToTheBit(once, twice, 4);
  }
}

// A real run on two data ranks, in whose step 4 a bit of what `operation` brings rank 1 is flipped.
RunOutcome RunWithFlip(const std::string& more, const std::string& operation) {
  const RunConfig config = TinyRun(NewFolder("run"), "parallel { data: 2 } training { steps: 5 } " + more);
  int steps = -1;  // that are computed
  bool flipped = false;
  const std::unique_ptr<Device> device = NewTestDevice();
  const RunOutcome outcome = RunTraining(config, [&](int rank, RankRun& run) {
    if (rank != 1) return;
    run.options.stop_requested = [&] { return ++steps > 99; };
    run.own_world = std::make_unique<FlippingWorld>(
        run.world, [&](const std::string& group, const char* called, const Tensor& result) {
          // Weights are gathered after the step's sums.
          const int step = operation == "AllGather" ? steps : steps + 1;
          if (group != "data" || called != operation || step != 4 || flipped) return;
          FlipBit(*device, result, 1, 5);
          flipped = true;
        });
  });
  EXPECT_TRUE(flipped);
  EXPECT_TRUE(outcome.status.ok() || absl::IsDataLoss(outcome.status)) << outcome.status;
  return outcome;
}

TEST(ComputeTwice, EndsARunInTheStepsThatAreComputedTwice) {
  const auto run = [](const std::string& every) {
    return RunWithFlip("training { compute_twice_every_steps: " + every + " checkpoint { every_steps: 1 } }",
                       "ReduceScatterSum").status;
  };
  EXPECT_THAT(std::string(run("2").message()),
              AllOf(HasSubstr("step 4 has not given the same bits twice; "),
                    HasSubstr("sum over data ranks of the gradient of "), HasSubstr(" on rank 1 on "),
                    HasSubstr("The checkpoint of step 3 is kept: it is from before")));
  EXPECT_EQ(run("3"), absl::OkStatus()) << "step 4 is computed once";
}

// The same errors, where only copies are compared: found where another rank has a copy that is right.
TEST(ComputeTwice, FindsWhatComparingCopiesDoesNot) {
  const std::string compare = " training { compare_replicas_every_steps: 1 }";
  const auto expect_found = [](const RunOutcome& outcome) {
    EXPECT_THAT(std::string(outcome.status.message()),
                AllOf(HasSubstr("rank 1 on "), HasSubstr("all copies must be equal to the bit")));
    EXPECT_NE(outcome.output.find("step 4/5"), std::string::npos);
    EXPECT_EQ(outcome.output.find("step 5/5"), std::string::npos);
  };
  expect_found(RunWithFlip("parallel { zero: NONE }" + compare, "AllReduceSum"));
  expect_found(RunWithFlip(compare, "AllGather"));
  EXPECT_EQ(RunWithFlip(compare, "ReduceScatterSum").status, absl::OkStatus());
}

}  // namespace
}  // namespace trefoil
