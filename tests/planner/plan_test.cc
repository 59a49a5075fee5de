#include "planner/plan.h"

#include <google/protobuf/text_format.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "tests/training/run_testing.h"
#include "training/actions.h"
#include "training/fine_tuning.h"
#include "training/saving/state_snapshot.h"
#include "training/step.h"

namespace trefoil {
namespace {

// A rank's whole step on the null device, all its micro-batches one after the other.
MemoryUse WholeSteps(const RunConfig& config, int rank, const std::vector<Action>& actions) {
  const std::unique_ptr<Device> device =
      NewNullDevice({.stands_for = NullDeviceOptions::StandsFor::kCpu, .threads = 1});
  const std::unique_ptr<World> world = NewNullWorld(RanksOf(config), rank);
  Worker worker(config, *world, *device, VirtualStages(config.parallel()), actions);
  std::optional<StateSnapshot> snapshot;
  if (SavesInBackground(config.training())) snapshot.emplace(worker.store, *device);
  worker.store.Initialize(1, worker.groups);
  for (const int step : {1, 2, 3}) {
    CHECK(TrainStep(worker, ZerosSource(config), step, 0, 1e-3).ok());
  }
  return device->memory();
}

class FoldTest : public testing::TestWithParam<const char*> {};

// Three micro-batches tell what any number of them takes, to the byte.
TEST_P(FoldTest, IsWhatWholeStepsTake) {
  const RunConfig config = TinyRun(NewFolder("run"), GetParam());
  Planner planner;
  int64_t snapshots = 0;
  for (int rank = 0; rank < RanksOf(config); ++rank) {
    SCOPED_TRACE(rank);
    const MemoryUse whole = WholeSteps(config, rank, ActionsOf(config, rank));
    const MemoryUse folded = planner.MemoryOf(config, RanksOf(config), rank);
    for (int i = 0; i < kPurposes; ++i) {
      EXPECT_EQ(folded.peak[static_cast<size_t>(i)], whole.peak[static_cast<size_t>(i)]) << Name(static_cast<Purpose>(i));
    }
    EXPECT_EQ(folded.peak_total, whole.peak_total);
    EXPECT_EQ(folded.reserved, whole.reserved);
    EXPECT_EQ(folded.current, whole.current);
    EXPECT_EQ(folded.compiled, whole.compiled);
    snapshots += folded.peak[static_cast<size_t>(Purpose::kSnapshot)];
  }
  // Together the ranks hold each element of the state once, in blocks of whole cache lines.
  const int64_t state = SavesInBackground(config.training()) ? 3 * 4 * DeclareRun(config).elements() : 0;
  EXPECT_GE(snapshots, state);
  EXPECT_LT(snapshots, state + 64 * RanksOf(config) + 1);
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, FoldTest,
    testing::Values("", "model { family: GPT dropout: 0.1 } training { precision: BF16 micro_batch: 2 }",
                    "training { global_batch: 1 }", "training { global_batch: 2 }", "training { global_batch: 3 }",
                    "training { global_batch: 32 }", "parallel { tensor: 2 }",
                    "parallel { tensor: 2 sequence_parallel: true } training { precision: BF16 }",
                    "parallel { pipeline: 4 }", "parallel { pipeline: 4 } training { global_batch: 24 }",
                    "parallel { pipeline: 2 schedule: GPIPE recompute: FULL }",
                    "parallel { pipeline: 3 schedule: GPIPE } training { global_batch: 16 }",
                    "model { family: GPT } parallel { pipeline: 2 schedule: INTERLEAVED recompute: SELECTIVE }",
                    "parallel { pipeline: 2 chunks: 2 schedule: INTERLEAVED data: 2 } training { global_batch: 32 }",
                    "model { family: GPT } training { precision: FP8 micro_batch: 2 } parallel { tensor: 2 }",
                    "parallel { data: 2 zero: NONE } training { checkpoint { every_steps: 3 writing: BACKGROUND } }",
                    "model { vocabulary: 61 layers: 5 } parallel { tensor: 4 data: 2 } training { precision: BF16 "
                    "checkpoint { every_steps: 3 writing: BACKGROUND } }",
                    "parallel { data: 2 zero: WEIGHTS pipeline: 2 } training { global_batch: 16 "
                    "checkpoint { every_steps: 3 writing: BACKGROUND } }",
                    "parallel { data: 2 zero: NONE }", "parallel { data: 4 } training { precision: BF16 }",
                    "parallel { data: 2 zero: GRADIENTS } training { global_batch: 16 }",
                    "parallel { data: 2 zero: WEIGHTS } training { global_batch: 16 precision: BF16 }",
                    "parallel { data: 2 pipeline: 2 zero: WEIGHTS schedule: GPIPE } training { global_batch: 16 }",
                    "model { family: GPT layers: 8 } parallel { data: 2 pipeline: 2 zero: WEIGHTS "
                    "schedule: INTERLEAVED } training { global_batch: 16 }",
                    "parallel { tensor: 2 data: 2 sequence_parallel: true } runtime { sums: FASTEST }",
                    "parallel { context: 4 pipeline: 2 }", "parallel { context: 2 context_method: ALL_TO_ALL data: 2 }",
                    "model { family: GPT } parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true }",
                    "model { vocabulary: 61 layers: 5 } parallel { tensor: 4 pipeline: 2 }",
                    "model { family: T5 layers: 2 vocabulary: 200 } parallel { pipeline: 4 }",
                    "model { family: TRANSFORMER layers: 2 vocabulary: 200 } parallel { pipeline: 2 tensor: 2 }",
                    "model { family: T5 layers: 4 vocabulary: 200 } parallel { pipeline: 4 schedule: GPIPE }",
                    "model { family: VIT image_size: 8 patch_size: 4 channels: 1 classes: 3 sequence_length: 0 vocabulary: 0 } parallel { "
                    "pipeline: 2 } training { global_batch: 24 }",
                    "model { family: LSTM } training { global_batch: 24 }",
                    "parallel { pipeline: 4 schedule: ZB_H1 }",
                    "parallel { pipeline: 4 schedule: ZB_H2 } training { global_batch: 24 }",
                    "model { family: GPT } parallel { pipeline: 3 schedule: ZB_H2 tensor: 2 sequence_parallel: true }",
                    "model { layers: 5 } parallel { pipeline: 2 schedule: ZB_V }",
                    "model { layers: 9 } parallel { pipeline: 4 schedule: ZB_V } training { global_batch: 24 }",
                    "model { layers: 7 } parallel { pipeline: 3 schedule: ZB_V recompute: SELECTIVE } "
                    "training { precision: BF16 }",
                    "model { layers: 5 } parallel { pipeline: 2 schedule: DUALPIPE_V data: 2 zero: NONE }",
                    "model { layers: 9 } parallel { pipeline: 4 schedule: DUALPIPE_V } training { global_batch: 24 }",
                    "model { layers: 7 } parallel { pipeline: 3 schedule: DUALPIPE_V recompute: FULL }",
                    "parallel { pipeline: 3 schedule: AUTO schedule_search { in_flight: 5 } }",
                    "model { layers: 6 } parallel { pipeline: 3 chunks: 2 schedule: AUTO }"));

// A micro-batch is there from its first forward to its last backward: four times as many of them take no more than their
// losses and what their samples' weights are.
TEST(PlanTest, MicroBatchesAreNotThereAllAtOnce) {
  const std::string vit =
      "model { family: VIT image_size: 24 patch_size: 4 channels: 3 classes: 3 sequence_length: 0 vocabulary: 0 } ";
  const auto activations = [&](int global_batch) {
    const RunConfig config =
        TinyRun(NewFolder("run"), vit + "training { global_batch: " + std::to_string(global_batch) + " }");
    return Planner().MemoryOf(config, 1, 0).peak[static_cast<size_t>(Purpose::kActivations)];
  };
  const int64_t few = activations(8), many = activations(32), pixels = 24 * 24 * 3 * sizeof(float);
  EXPECT_GE(many, few);
  EXPECT_LT(many - few, pixels) << "of one of 24 samples more";
}

// Divided backwards whose weights wait until `delay` later computations have been done, at the end for those that are
// left.
std::vector<Action> Divided(const std::vector<Action>& actions, int delay) {
  std::vector<Action> divided;
  std::deque<std::pair<Action, int>> weights;  // and the computation that they come after
  const auto add_weight = [&] {
    divided.push_back(weights.front().first);
    weights.pop_front();
  };
  int computations = 0;
  for (Action action : actions) {
    if (action.kind == ActionKind::kForward) {
      action.divided = true;
      ++computations;
    }
    if (action.kind == ActionKind::kBackward) {
      action.kind = ActionKind::kBackwardWeight;
      weights.emplace_back(action, ++computations + delay);
      action.kind = ActionKind::kBackwardInput;
    }
    divided.push_back(action);
    if (!weights.empty() && weights.front().second == computations) add_weight();
  }
  while (!weights.empty()) add_weight();
  return divided;
}

// The few micro-batches of a profile take out what stands between a backward's halves: it stays divided all the same.
TEST(PlanTest, DividedBackwardsTakeWhatWholeStepsTake) {
  const RunConfig config = TinyRun(NewFolder("run"), "parallel { pipeline: 2 } training { global_batch: 32 }");
  TimeModel time(Cluster(), 1);
  for (int rank = 0; rank < RanksOf(config); ++rank) {
    int64_t before = 0;
    for (const int delay : {0, 1, 5}) {
      SCOPED_TRACE(testing::Message() << "rank " << rank << ", delay " << delay);
      const std::vector<Action> actions = Divided(ActionsOf(config, rank), delay);
      const MemoryUse whole = WholeSteps(config, rank, actions);
      const StageProfile profile = ProfileStage(config, actions, RanksOf(config), rank, time);
      const MemoryUse folded =
          FoldMemory(profile, actions, config.training().global_batch() / config.training().micro_batch());
      EXPECT_EQ(folded.peak, whole.peak);
      EXPECT_EQ(folded.reserved, whole.reserved);
      EXPECT_GT(whole.peak_total, before) << "what waits takes room";
      before = whole.peak_total;
    }
  }
}

// What training on the CPU takes of every purpose, and what the arena then holds, is what two steps on the null device
// say, for every rank, to the byte, whatever the timing of threads and messages.
struct Run {
  std::string config;
  int threads = 1;
};
void PrintTo(const Run& run, std::ostream* out) { *out << run.threads << " thread(s), " << run.config; }

class Rank {
 public:
  Rank(const RunConfig& config, World& world, Device& device)
      : worker_(config, world, device), source_(ZerosSource(config)) {
    worker_.store.Initialize(1, worker_.groups);
  }
  void Step() { CHECK(TrainStep(worker_, source_, ++step_, 0, 1e-3).ok()); }
  void Evaluate() {
    CHECK(trefoil::Evaluate(worker_, source_, 2 * worker_.config.training().global_batch()).ok());
  }

 private:
  Worker worker_;
  const BatchSource source_;
  int64_t step_ = 0;
};

// After `work`, of every rank.
std::vector<MemoryUse> RealUse(const RunConfig& config, int threads, const std::function<void(Rank&)>& work) {
  std::vector<MemoryUse> uses(static_cast<size_t>(RanksOf(config)));
  RunRanksAsThreads(RanksOf(config), [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(threads);
    Rank rank(config, world, *device);
    work(rank);
    uses[static_cast<size_t>(world.rank())] = device->memory();
  });
  return uses;
}
class MemoryOfEveryRank : public testing::TestWithParam<Run> {};

TEST_P(MemoryOfEveryRank, IsPlannedToTheByte) {
  const RunConfig config = TinyRun(NewFolder("run"), GetParam().config);
  const int threads = GetParam().threads;
  const std::vector<MemoryUse> uses = RealUse(config, threads, [](Rank& rank) {
    for (int i = 0; i < 3; ++i) rank.Step();
    rank.Evaluate();
    rank.Step();
  });
  for (int number = 0; number < RanksOf(config); ++number) {
    const MemoryUse& real = uses[static_cast<size_t>(number)];
    const std::string name = "rank " + std::to_string(number);
    const std::unique_ptr<Device> device =
        NewNullDevice({.stands_for = NullDeviceOptions::StandsFor::kCpu, .threads = threads});
    const std::unique_ptr<World> world = NewNullWorld(RanksOf(config), number);
    Rank rank(config, *world, *device);
    rank.Step();
    EXPECT_EQ(device->memory().reserved, real.reserved) << name << " after one step";
    // The buffers of sums are there from a sum on: only a second step has them from its beginning.
    rank.Step();
    const MemoryUse planned = device->memory();
    for (int i = 0; i < kPurposes; ++i) {
      EXPECT_EQ(planned.peak[i], real.peak[i]) << Name(static_cast<Purpose>(i)) << " of " << name;
    }
    EXPECT_EQ(planned.peak_total, real.peak_total) << name;
    EXPECT_EQ(planned.reserved, real.reserved) << name;
    const MemoryUse folded = Planner().MemoryOf(
        With(config, "runtime { threads: " + std::to_string(threads) + " }"), RanksOf(config), number);
    EXPECT_EQ(folded.peak, real.peak) << name << ", folded";
    EXPECT_EQ(folded.peak_total, real.peak_total) << name << ", folded";
    EXPECT_EQ(folded.reserved, real.reserved) << name << ", folded";
    EXPECT_EQ(folded.compiled, real.compiled) << name << ", folded";
  }
}

std::vector<Run> Runs() {
  constexpr const char* kLayouts[] = {
      "",
      "parallel { tensor: 2 }",
      "parallel { tensor: 4 sequence_parallel: true }",
      "parallel { pipeline: 2 schedule: GPIPE }",
      "parallel { pipeline: 4 schedule: ONE_F_ONE_B }",
      "parallel { pipeline: 2 schedule: INTERLEAVED }",
      "parallel { data: 2 zero: NONE }",
      "parallel { data: 4 zero: OPTIMIZER }",
      "parallel { data: 2 pipeline: 2 zero: OPTIMIZER schedule: ONE_F_ONE_B }",
      "parallel { tensor: 2 data: 2 zero: OPTIMIZER sequence_parallel: true }",
      "parallel { tensor: 2 pipeline: 2 data: 2 zero: NONE schedule: GPIPE }",
      "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true schedule: INTERLEAVED }",
      "parallel { data: 4 zero: GRADIENTS }",
      "parallel { data: 4 zero: WEIGHTS replicas: 2 }",
      "parallel { tensor: 2 pipeline: 2 data: 2 zero: GRADIENTS schedule: GPIPE }",
      "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true zero: WEIGHTS schedule: INTERLEAVED }",
      "parallel { context: 2 }",
      "parallel { context: 2 tensor: 2 pipeline: 2 sequence_parallel: true context_method: ALL_TO_ALL }",
      "parallel { context: 2 data: 2 pipeline: 2 zero: OPTIMIZER context_method: RING }",
  };
  constexpr const char* kKinds[] = {
      "model { family: LLAMA } training { precision: FP32 } parallel { recompute: NOTHING }",
      "model { family: GPT dropout: 0.1 } training { precision: BF16 } parallel { recompute: SELECTIVE }",
      "model { family: LLAMA } training { precision: BF16 micro_batch: 2 } parallel { recompute: FULL }",
      "model { family: GPT hidden: 64 feed_forward: 128 } training { precision: FP8 micro_batch: 2 } "
      "parallel { recompute: NOTHING }",
      "model { family: LLAMA hidden: 64 feed_forward: 128 } training { precision: FP8 micro_batch: 2 } "
      "parallel { recompute: SELECTIVE }",
  };
  std::vector<Run> runs;
  for (const char* layout : kLayouts) {
    for (const char* kind : kKinds) {
      runs.push_back({.config = std::string(kind) + " " + layout, .threads = 1 + static_cast<int>(runs.size()) % 2});
    }
  }
  // Weight gradients that wait, and the head on the first stage.
  constexpr const char* kZeroBubble[] = {
      "parallel { pipeline: 4 schedule: ZB_H1 } ",
      "parallel { pipeline: 2 data: 2 schedule: ZB_H2 zero: NONE } ",
      "model { layers: 4 } parallel { tensor: 2 pipeline: 2 sequence_parallel: true schedule: ZB_V } ",
      "model { layers: 6 } parallel { pipeline: 3 schedule: ZB_V } ",
      "model { layers: 4 } parallel { pipeline: 2 data: 2 schedule: DUALPIPE_V } training { global_batch: 16 } ",
      "model { layers: 8 } parallel { pipeline: 4 schedule: DUALPIPE_V } training { global_batch: 16 } ",
      "model { layers: 4 } parallel { pipeline: 2 chunks: 2 schedule: AUTO } ",
  };
  for (const char* layout : kZeroBubble) {
    for (const char* kind : {"model { family: LLAMA } training { precision: FP32 }",
                             "model { family: GPT dropout: 0.1 } training { precision: BF16 } "
                             "parallel { recompute: SELECTIVE }",
                             "model { family: GPT hidden: 64 feed_forward: 128 } training { precision: FP8 } "
                             "parallel { recompute: FULL }"}) {
      runs.push_back({.config = std::string(layout) + kind, .threads = 1 + static_cast<int>(runs.size()) % 2});
    }
  }
  for (const char* family :
       {"model { family: BERT dropout: 0.1 layers: 4 } parallel { pipeline: 2 schedule: ZB_V }",
        "model { family: T5 layers: 4 decoder_layers: 4 vocabulary: 200 } parallel { pipeline: 2 schedule: ZB_V }",
        "model { family: TRANSFORMER layers: 4 decoder_layers: 4 decoder_length: 12 } parallel { pipeline: 3 schedule: "
        "ZB_H1 }",
        "model { family: LSTM layers: 4 dropout: 0.1 } parallel { pipeline: 2 schedule: DUALPIPE_V }"}) {
    runs.push_back({.config = family, .threads = 1});
  }
  // Of the other families: what travels with a micro-batch, tied tables of several stages, heads that choose rows.
  constexpr const char* kFamilies[] = {
      "model { family: BERT dropout: 0.1 } parallel { recompute: SELECTIVE }",
      "model { family: BERT classes: 3 } task { kind: TEXT_CLASSES } training { precision: BF16 }",
      "model { family: MODERN_BERT } parallel { recompute: FULL }",
      "model { family: TRANSFORMER decoder_length: 12 } task { label_smoothing: 0.1 }",
      "model { family: T5 vocabulary: 200 } training { precision: BF16 }",
      "model { family: VIT image_size: 12 patch_size: 4 channels: 1 classes: 3 sequence_length: 0 vocabulary: 0 "
      "stochastic_depth: 0.5 } training { micro_batch: 2 }",
      "model { family: VIT image_size: 8 patch_size: 2 channels: 1 sequence_length: 0 vocabulary: 0 decoder_layers: 3 "
      "decoder_hidden: 24 decoder_heads: 2 } task { kind: PATCHES } training { micro_batch: 2 precision: BF16 }",
      "model { family: LSTM dropout: 0.1 } training { precision: BF16 }",
      "model { family: RNN bidirectional: true classes: 3 } task { kind: TEXT_CLASSES }",
  };
  for (const char* family : kFamilies) {
    for (const char* layout : {"", "parallel { pipeline: 2 }", "training { micro_batch: 2 } parallel { tensor: 2 data: 2 "
                                                               "pipeline: 2 sequence_parallel: true }",
                               "training { micro_batch: 2 } parallel { data: 2 pipeline: 2 zero: WEIGHTS }"}) {
      runs.push_back({.config = std::string(family) + " " + layout, .threads = 1});
    }
  }
  // Of parameters that are not trained: whole first stages without a backward, parts of modules, a tied table.
  for (const char* tuning :
       {"model { layers: 4 } training { fine_tuning { frozen_layers: 3 layer_decay: 0.5 } precision: BF16 }",
        "model { family: GPT layers: 4 dropout: 0.1 } training { fine_tuning { freeze: 'embedding' freeze: 'blocks.1' "
        "freeze: "
        "'blocks.2.mlp.up.weight' } }",
        "model { family: T5 layers: 4 vocabulary: 200 } training { fine_tuning { frozen_layers: 1 freeze: "
        "'decoder.relative' } }"}) {
    for (const char* layout :
         {"", "parallel { pipeline: 2 }", "parallel { data: 2 pipeline: 2 recompute: FULL }",
          "parallel { tensor: 2 data: 2 sequence_parallel: true } training { micro_batch: 2 gradient_groups: 2 }"}) {
      runs.push_back({.config = std::string(tuning) + " " + layout, .threads = 1});
    }
  }
  for (const char* layout :
       {"", "parallel { pipeline: 2 recompute: FULL } training { precision: BF16 }",
        "parallel { tensor: 2 data: 2 sequence_parallel: true } training { micro_batch: 2 }",
        "model { hidden: 64 feed_forward: 128 } training { precision: FP8 micro_batch: 2 } parallel { tensor: 2 }"}) {
    runs.push_back(
        {.config = std::string("model { lora { rank: 3 on: QUERY on: VALUE on: OUTPUT on: UP on: DOWN } } ") + layout});
    runs.push_back({.config = std::string("model { family: GPT lora { rank: 2 on: KEY on: DOWN } } ") + layout});
  }
  runs.push_back(
      {.config = "model { layers: 4 } training { fine_tuning { frozen_layers: 3 } } parallel { pipeline: 4 }"});
  for (const char* layout : {"", "parallel { pipeline: 2 context: 2 }",
                             "parallel { tensor: 2 context: 2 context_method: ALL_TO_ALL sequence_parallel: true }"}) {
    runs.push_back({.config = std::string("model { family: GPT } data { mask_documents: true } ") + layout});
  }
  // Sums of several segments, activations of several tiles.
  for (const char* layout : {"parallel { tensor: 2 sequence_parallel: true }", "parallel { data: 2 pipeline: 2 }"}) {
    runs.push_back({.config = std::string("model { family: GPT hidden: 128 feed_forward: 256 vocabulary: 9001 "
                                          "sequence_length: 80 } training { precision: BF16 micro_batch: 2 } ") +
                              layout,
                    .threads = 2});
  }
  return runs;
}

INSTANTIATE_TEST_SUITE_P(Runs, MemoryOfEveryRank, testing::ValuesIn(Runs()));

StagePlan Fullest(const RunConfig& config) {
  const Plan plan = Planner().Make(config, RanksOf(config));
  return plan.stages[static_cast<size_t>(plan.fullest)];
}

// The last of the stage's tensor ranks has the larger part of a vocabulary of 61.
TEST(Planner, IsOfTheRankThatNeedsMost) {
  // The first stage keeps the most micro-batches in flight; the last one, whose logits are wide, the largest.
  const RunConfig deep = TinyRun(NewFolder("deep"), "parallel { tensor: 2 pipeline: 2 }");
  EXPECT_EQ(Fullest(deep).rank, 1);
  const RunConfig wide = TinyRun(NewFolder("wide"),
                                 "model { vocabulary: 4001 layers: 2 } parallel { tensor: 2 pipeline: 2 } "
                                 "training { micro_batch: 4 }");
  EXPECT_EQ(Fullest(wide).rank, 3);
}

// The library has its own buffers.
TEST(Planner, TakesNoBuffersForTheFastestSums) {
  const RunConfig config = TinyRun(NewFolder("run"), "parallel { tensor: 2 data: 2 }");
  const auto planned = [](const RunConfig& run) {
    return Fullest(run).memory.peak[static_cast<size_t>(Purpose::kCommunication)];
  };
  EXPECT_GT(planned(config), 0);
  EXPECT_EQ(planned(With(config, "runtime { sums: FASTEST }")), 0);
}

// The bytes that a plan says go over the data axis are those that the ranks send in a step: the reductions of each
// micro-batch and, of split weights, the gathers of the whole list, which a profile of few micro-batches has not seen.
TEST(Planner, SplitGradientsAndWeightsSendWhatIsPlanned) {
  for (const char* layout :
       {"data: 2 zero: OPTIMIZER", "data: 4 zero: GRADIENTS", "data: 2 zero: WEIGHTS",
        "data: 2 pipeline: 2 zero: GRADIENTS", "data: 2 pipeline: 2 zero: WEIGHTS", "data: 2 pipeline: 2 zero: WEIGHTS schedule: GPIPE recompute: FULL",
        "data: 2 pipeline: 2 zero: WEIGHTS schedule: INTERLEAVED"}) {
    for (const char* kind : {"model { family: LLAMA layers: 8 } training { global_batch: 32 }",
                             "model { family: GPT layers: 8 } training { global_batch: 32 precision: BF16 }"}) {
      SCOPED_TRACE(testing::Message() << kind << " " << layout);
      const RunConfig config = TinyRun(NewFolder("run"), std::string(kind) + " parallel { " + layout + " }");
      const Plan plan = Planner().Make(config, RanksOf(config));
      RunRanksAsThreads(RanksOf(config), [&](World& world) {
        const std::unique_ptr<Device> device = NewCpuDevice(/*threads=*/1);
        Worker worker(config, world, *device);
        worker.store.Initialize(1, worker.groups);
        const BatchSource source = ZerosSource(config);
        ASSERT_TRUE(TrainStep(worker, source, 1, 0, 1e-3).ok());
        const int64_t before = worker.data->bytes_sent();
        ASSERT_TRUE(TrainStep(worker, source, 2, 0, 1e-3).ok());
        const StagePlan& stage = plan.stages[static_cast<size_t>(worker.place.stage)];
        EXPECT_NEAR(static_cast<double>(worker.data->bytes_sent() - before) / stage.sent.at("data").bytes, 1, 1e-12)
            << "stage " << worker.place.stage;
        EXPECT_EQ(stage.gathers > 0, config.parallel().zero() == ParallelConfig::WEIGHTS);
      });
    }
  }
}

// Backwards in two reduce each bucket as often as whole ones: what the first half makes waits for the second.
TEST(Planner, DividedBackwardsReduceOnce) {
  for (const char* zero : {"GRADIENTS", "WEIGHTS"}) {
    const RunConfig config =
        TinyRun(NewFolder("run"), std::string("model { family: GPT tied: false } parallel { data: 2 zero: ") + zero +
                                      " } training { global_batch: 6 }");
    TimeModel time(Cluster(), 1);
    const auto reduced = [&](const std::vector<Action>& actions) {
      const StageProfile profile = ProfileStage(config, actions, 2, 0, time);
      double bytes = 0;
      for (const Action& action : actions) {
        const PartCost& cost = profile.CostOf(profile.steady, action, 3);
        if (cost.sent.contains("data")) bytes += cost.sent.at("data").bytes;
      }
      return bytes;
    };
    const std::vector<Action> whole = ActionsOf(config, 0);
    EXPECT_GT(reduced(whole), 0);
    for (const int delay : {0, 1, 5}) EXPECT_EQ(reduced(Divided(whole, delay)), reduced(whole)) << zero << delay;
  }
}

// By the formulas: with d ranks a share (d - 1) / d of 4 n bytes is reduced for each micro-batch, and of w n gathered once
// for the update of whole weights.
TEST(Planner, ZeroSendsByItsFormulas) {
  const auto sent = [](const std::string& zero, int batch) {
    const RunConfig config = TinyRun(
        NewFolder("run"), "model { layers: 16 } parallel { data: 4 zero: " + zero + " } training { global_batch: " +
                              std::to_string(batch) + " }");
    return Planner().Make(config, 4).stages[0].sent.at("data").bytes;
  };
  // In float32 the reductions of one micro-batch are as large as the gather.
  const double once = sent("OPTIMIZER", 4) / 2;
  EXPECT_EQ(sent("OPTIMIZER", 32), 2 * once);
  EXPECT_EQ(sent("GRADIENTS", 4), 2 * once);
  EXPECT_EQ(sent("GRADIENTS", 32), (8 + 1) * once);
  // Forward and backward gather all but what is still there.
  EXPECT_GT(sent("WEIGHTS", 32), (8 + 2 * 6.5) * once);
  EXPECT_LT(sent("WEIGHTS", 32), (8 + 2 * 8) * once);
}

// What is not trained has weights only, is not reduced and has no products for its gradients.
TEST(Planner, ShowsWhatFrozenLayersSave) {
  const RunConfig config = TinyRun(NewFolder("run"), "parallel { data: 2 zero: NONE }");
  const RunConfig frozen = With(config, "training { fine_tuning { frozen_layers: 3 } }");
  const auto planned = [](const RunConfig& run) { return Planner().Make(run, RanksOf(run)); };
  const Plan whole = planned(config), plan = planned(frozen);
  EXPECT_EQ(plan.parameters, whole.parameters);
  EXPECT_LT(plan.trained_parameters, plan.parameters / 2);
  const auto memory = [](const Plan& of, Purpose purpose) {
    return of.stages[0].memory.peak[static_cast<size_t>(purpose)];
  };
  EXPECT_EQ(memory(plan, Purpose::kWeights), memory(whole, Purpose::kWeights));
  EXPECT_EQ(memory(plan, Purpose::kGradients), 4 * plan.trained_parameters);
  EXPECT_EQ(memory(plan, Purpose::kOptimizer), 8 * plan.trained_parameters);
  EXPECT_LT(memory(plan, Purpose::kActivations), memory(whole, Purpose::kActivations) / 2);
  // But for padding.
  EXPECT_NEAR(plan.stages[0].sent.at("data").bytes / whole.stages[0].sent.at("data").bytes,
              static_cast<double>(plan.trained_parameters) / static_cast<double>(whole.parameters), 1e-3);
  // A forward of three of four blocks, and all of the last one and the head.
  EXPECT_NEAR(plan.counted_flops / plan.model_flops, whole.counted_flops / whole.model_flops, 0.02);
  EXPECT_LT(plan.counted_flops, 0.6 * whole.counted_flops);
}

// Adapters add no message to a micro-batch: what a step of more micro-batches sends more is what the plain model sends.
TEST(Planner, AdaptersAddNoMessageToAMicroBatch) {
  const auto sent = [&](const std::string& more, int micro_batches) {
    const RunConfig config =
        TinyRun(NewFolder("run"),
                "parallel { tensor: 2 } training { global_batch: " + std::to_string(micro_batches) + " } " + more);
    return Planner().Make(config, 2).stages[0].sent.at("tensor");
  };
  for (const char* tokens : {"", "parallel { sequence_parallel: true } "}) {
    const std::string all =
        std::string(tokens) + "model { lora { rank: 2 on: QUERY on: KEY on: OUTPUT on: UP on: DOWN } }";
    const OpTotal plain = sent(tokens, 8), fewer = sent(tokens, 4), adapted = sent(all, 8),
                  fewer_adapted = sent(all, 4);
    EXPECT_LE(adapted.calls - fewer_adapted.calls, plain.calls - fewer.calls);
    EXPECT_LE(adapted.bytes - fewer_adapted.bytes, plain.bytes - fewer.bytes);
  }
}

// What context ranks send each other in attention, by either method, and when that takes time of its own.
TEST(Planner, CountsWhatContextRanksSend) {
  const RunConfig ring = TinyRun(NewFolder("run"), "model { kv_heads: 2 heads: 4 } parallel { context: 2 }");
  const RunConfig exchange = With(ring, "parallel { context_method: ALL_TO_ALL }");
  const ModelConfig& model = ring.model();
  const double calls = model.layers() * ring.training().global_batch() / ring.training().micro_batch();
  const double rows = ring.training().micro_batch() * model.sequence_length() / 2.0;
  const double queries = rows * model.heads() * model.head_dim() * 4;
  const double keys = rows * 2 * model.kv_heads() * model.head_dim() * 4;
  const auto sent = [](const RunConfig& config, const std::string& cluster_text) {
    Cluster cluster;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(cluster_text, &cluster));
    return Planner(cluster).Make(config, 2).stages[0].sent.at("context");
  };
  // Keys and values once in the forward, again in the backward, and their gradients twice: home is a step further.
  EXPECT_EQ(sent(ring, "").bytes, calls * 4 * keys);
  EXPECT_EQ(sent(exchange, "").bytes, calls * (5 * queries + 2 * keys) / 2);
  const std::string devices =
      "devices_per_node: 2 peaks { dtype: 'float32' tflops: 0.001 } ops { efficiency: 0.5 gbytes_per_second: 1 } ";
  const std::string fast = devices + "node { gbytes_per_second: 100 } ";
  const std::string slow = devices + "node { gbytes_per_second: 1e-6 } ";
  EXPECT_NEAR(sent(ring, fast + "gpu: true").seconds, calls * keys / 100e9, 1e-3 * calls * keys / 100e9)
      << "all but the last way home is hidden behind attention";
  EXPECT_NEAR(sent(ring, fast + "gpu: false").seconds, 4 * calls * keys / 100e9, 1e-3 * calls * keys / 100e9)
      << "of the cores that would attend";
  EXPECT_GT(sent(ring, slow + "gpu: true").seconds, 3 * calls * keys / 1e3);
  EXPECT_NEAR(sent(exchange, fast + "gpu: true").seconds, calls * (5 * queries + 2 * keys) / 2 / 100e9,
              1e-3 * calls * keys / 100e9);
}

TEST(Planner, ShowsWhatLayoutsSave) {
  const RunConfig config = TinyRun(NewFolder("run"), "training { precision: BF16 }");
  const auto planned = [&](const char* more, Purpose purpose) {
    const RunConfig other = With(config, more);
    return Fullest(other).memory.peak[static_cast<size_t>(purpose)];
  };
  EXPECT_EQ(planned("parallel { data: 4 zero: NONE }", Purpose::kOptimizer),
            4 * planned("parallel { data: 4 zero: OPTIMIZER }", Purpose::kOptimizer));
  EXPECT_LT(planned("parallel { recompute: FULL }", Purpose::kActivations), planned("", Purpose::kActivations) / 2);
  EXPECT_LT(planned("parallel { tensor: 2 }", Purpose::kWeights), planned("", Purpose::kWeights) * 6 / 10);
}

// In the foreground where the second buffer does not fit, and only there: on GPUs into the host's memory, as the cluster or
// who asks says; on CPUs into the rank's.
TEST(PlanWithSaves, AreInTheForegroundWhereTheSecondBufferDoesNotFit) {
  const RunConfig config = TinyRun(NewFolder("run"), "parallel { data: 2 zero: NONE } training { checkpoint { "
                                                     "every_steps: 3 writing: BACKGROUND } }");
  const auto writing = [&](const Cluster& cluster, double host_limit, double own_limit) {
    RunConfig planned = config;
    planned.mutable_runtime()->set_memory_limit_gib(static_cast<float>(own_limit / (1 << 30)));
    Planner planner(cluster);
    const Plan plan = PlanWithSaves(planner, &planned, 2, host_limit);
    EXPECT_TRUE(plan.fits());
    const bool background = SavesInBackground(planned.training());
    int64_t snapshot = plan.host_memory();
    for (const StagePlan& stage : plan.stages) snapshot += stage.memory.peak[static_cast<size_t>(Purpose::kSnapshot)];
    EXPECT_EQ(snapshot > 0, background);
    return background ? "BACKGROUND" : "FOREGROUND";
  };
  Cluster gpus;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "device: 'a' gpu: true devices_per_node: 4 memory_gib: 80 peaks { dtype: 'float32' tflops: 30 } "
      "node { gbytes_per_second: 200 } network { gbytes_per_second: 20 }",
      &gpus));
  const auto bytes = static_cast<double>(Planner(gpus).Make(config, 2).host_memory());
  ASSERT_GT(bytes, 0);
  EXPECT_STREQ(writing(gpus, 0, 0), "BACKGROUND") << "unknown";
  EXPECT_STREQ(writing(gpus, bytes, 0), "BACKGROUND");
  EXPECT_STREQ(writing(gpus, bytes - 1, 0), "FOREGROUND");
  gpus.set_host_memory_gib(4 * bytes / (1 << 30));
  EXPECT_STREQ(writing(gpus, 0, 0), "BACKGROUND");
  EXPECT_STREQ(writing(gpus, bytes - 1, 0), "FOREGROUND") << "what is known of the host itself counts";
  gpus.set_host_memory_gib(4 * (bytes - 1) / (1 << 30));
  EXPECT_STREQ(writing(gpus, 0, 0), "FOREGROUND");
  EXPECT_STREQ(writing(gpus, bytes, 0), "BACKGROUND");
  const auto whole = static_cast<double>(Planner().Make(config, 2).reserved());
  EXPECT_STREQ(writing(Cluster(), 0, whole + (1 << 10)), "BACKGROUND");
  EXPECT_STREQ(writing(Cluster(), 0, whole - (1 << 10)), "FOREGROUND");
}

}  // namespace
}  // namespace trefoil
