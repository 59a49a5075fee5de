#include "training/non_finite.h"

#include <gmock/gmock.h>

#include <cmath>
#include <mutex>

#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"
#include "tests/training/run_testing.h"
#include "training/step.h"

namespace trefoil {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kLayouts[] = {
    "parallel { data: 1 }",
    "parallel { tensor: 2 sequence_parallel: true recompute: SELECTIVE }",
    "parallel { pipeline: 2 data: 2 recompute: FULL }",
    "parallel { tensor: 2 pipeline: 2 data: 2 }",
    "parallel { pipeline: 2 schedule: INTERLEAVED zero: NONE }",
    "parallel { data: 2 zero: GRADIENTS }",
};

// Multiplies the elements of this rank's slice of a parameter, or of the first of them alone.
void Scale(Worker& worker, const std::string& name, float factor, bool first_only = false) {
  for (BucketMemory& memory : worker.store.buckets()) {
    for (const BucketEntry& entry : memory.bucket.entries) {
      if (entry.parameter->name != name) continue;
      const Tensor x = memory.weights.Range(entry.begin, {first_only ? 1 : entry.box.extent.elements()});
      std::vector<float> values(static_cast<size_t>(x.elements()));
      worker.device.Download(x, values.data());
      for (float& value : values) value *= factor;
      worker.device.Upload(values.data(), x);
    }
  }
}

bool Holds(const Worker& worker, const std::string& name) {
  const int module = worker.table.Find(name).module;
  return std::find(worker.modules.begin(), worker.modules.end(), module) != worker.modules.end();
}

BatchSource Tokens() {
  return [](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
    const std::vector<int32_t> ids = LearnableIds(count * 16, 61, static_cast<uint64_t>(first));
    const HostTensor tokens(ids, {count, 16});
    return Batch{.samples = count, .length = 16, .first_sample = first, .inputs = tokens, .targets = tokens};
  };
}

// A step's error on every rank of a layout, after `damage`; the same on all.
absl::Status StatusAfter(const std::string& layout, const std::function<void(Worker&)>& damage) {
  const RunConfig config = TinyRun(NewFolder("run"), layout);
  std::vector<absl::Status> statuses(static_cast<size_t>(RanksOf(config)));
  RunRanksAsThreads(RanksOf(config), [&](World& threads) {
    threads.set_timeout_seconds(60);
    const TestWorld world(threads);
    const std::unique_ptr<Device> device = NewTestDevice();
    Worker worker(config, *world, *device);
    worker.store.Initialize(1, worker.groups);
    damage(worker);
    statuses[static_cast<size_t>(world->rank())] = TrainStep(worker, Tokens(), 17, 0, 1e-3).status();
    for (const BucketMemory& memory : worker.store.buckets()) {
      EXPECT_EQ(SumOfSquares(*device, memory.gradient_shard), 0) << "gradients must be zero after the error";
    }
  });
  for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]);
  EXPECT_TRUE(absl::IsDataLoss(statuses[0])) << statuses[0];
  return statuses[0];
}

TEST(FindNonFinite, ADamagedWeightIsNamedWithItsRank) {
  for (const char* layout : kLayouts) {
    const RunConfig config = TinyRun(NewFolder("sizes"), layout);
    for (const char* name : {"embedding.token.weight", "blocks.2.mlp.down.weight", "head.norm.weight"}) {
      // The copy of one rank that has it: the last, so of the last data and tensor rank.
      std::mutex mutex;
      int damaged = -1;
      const auto holder = [&](const Worker& worker) {
        const Mesh& mesh = worker.mesh;
        return Holds(worker, name) && mesh.index(Axis::kData) == mesh.size(Axis::kData) - 1 &&
               mesh.index(Axis::kTensor) == mesh.size(Axis::kTensor) - 1;
      };
      const absl::Status status = StatusAfter(layout, [&](Worker& worker) {
        if (!holder(worker)) return;
        // All of it: not every element of an embedding is used.
        Scale(worker, name, NAN);
        const std::lock_guard lock(mutex);
        damaged = worker.mesh.rank();
      });
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("step 17: the loss is "),
                        HasSubstr(std::string("first: weight ") + name + " on rank " + std::to_string(damaged) + " on ")))
          << layout;
    }
  }
}

// Finite weights whose products are not.
TEST(FindNonFinite, TheLayerWhoseOutputOverflowsIsNamed) {
  for (const char* layout : kLayouts) {
    const absl::Status norm =
        StatusAfter(layout, [](Worker& worker) { Scale(worker, "blocks.1.attention_norm.weight", 3e38f); });
    EXPECT_THAT(std::string(norm.message()), HasSubstr("first: output of blocks.1.attention_norm, micro-batch 0, on rank "))
        << layout;
    const absl::Status mlp = StatusAfter(layout, [](Worker& worker) {
      Scale(worker, "blocks.3.mlp.up.weight", 1e25f);
      Scale(worker, "blocks.3.mlp.down.weight", 1e25f);
    });
    EXPECT_THAT(std::string(mlp.message()), HasSubstr("first: output of blocks.3.mlp, micro-batch 0, on rank "))
        << layout;
  }
}

// The forward is finite, a gradient of a weight is not: a matrix of zeros between huge inputs and a huge matrix.
TEST(FindNonFinite, AGradientThatOverflowsIsNamed) {
  for (const char* layout : kLayouts) {
    const absl::Status status = StatusAfter(layout, [](Worker& worker) {
      Scale(worker, "blocks.1.attention_norm.weight", 5e37f);
      for (const char* matrix : {"q", "k"}) {
        Scale(worker, std::string("blocks.1.attention.") + matrix + ".weight", 2e-38f);
      }
      Scale(worker, "blocks.1.attention.v.weight", 0);
      Scale(worker, "blocks.1.attention.output.weight", 1e20f);
    });
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("step 17: the gradient norm is "),
                                        HasSubstr("first: gradient of blocks.1.attention."), HasSubstr(" on rank ")))
        << layout;
  }
}

// All weights and moments of a rank's share.
std::string StateOf(Worker& worker) {
  std::string bytes;
  for (int i = 0; i < worker.store.state_parts(); ++i) {
    const ParameterStore::StatePart part = worker.store.State(i, ParameterStore::Elements::kHeld);
    for (const ShardedTensor& slice : part.slices) {
      bytes.append(reinterpret_cast<const char*>(slice.data), static_cast<size_t>(slice.bytes()));
    }
  }
  return bytes;
}

// A run that skips a step has, after further steps, the bits of a run in which that step was never tried.
TEST(SkippedStep, IsAsIfItHadNeverBeenTried) {
  for (const char* layout : kLayouts) {
    const RunConfig config = TinyRun(NewFolder("run"), std::string(layout) + " training { on_nan: SKIP }");
    RunRanksAsThreads(RanksOf(config), [&](World& threads) {
      threads.set_timeout_seconds(60);
      const TestWorld world(threads);
      const std::unique_ptr<Device> device = NewTestDevice();
      std::string states[2];
      for (const bool tried : {true, false}) {
        Worker worker(config, *world, *device);
        worker.store.Initialize(1, worker.groups);
        // Token 60 is poison.
        for (BucketMemory& memory : worker.store.buckets()) {
          for (const BucketEntry& entry : memory.bucket.entries) {
            const int64_t row = 60 - (entry.box.extent.rank() == 2 ? entry.box.offset[0] : 0);
            if (entry.parameter->name != "embedding.token.weight" || row >= entry.box.extent[0]) continue;
            const std::vector<float> nan(32, NAN);
            worker.device.Upload(nan.data(), memory.weights.Range(entry.begin + row * 32, {32}));
          }
        }
        const auto source = [](int32_t most) -> BatchSource {
          return [most](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
            std::vector<int32_t> ids = LearnableIds(count * 16, most, static_cast<uint64_t>(first));
            ids[3] = most - 1;
            const HostTensor tokens(ids, {count, 16});
            return Batch{.samples = count, .length = 16, .first_sample = first, .inputs = tokens, .targets = tokens};
          };
        };
        for (int64_t step = 1; step <= 5; ++step) {
          const int64_t skipped = step > 3 ? 1 : 0;
          if (step == 3 && !tried) continue;
          const auto result = TrainStep(worker, source(step == 3 ? 61 : 60), step, 8 * step, 1e-3, skipped);
          ASSERT_TRUE(result.ok()) << result.status();
          EXPECT_EQ(std::isfinite(result->loss), step != 3);
          const std::string named = "weight embedding.token.weight on rank ";
          EXPECT_EQ(result->not_finite.substr(0, named.size()), step == 3 ? named : "");
        }
        states[tried ? 0 : 1] = StateOf(worker);
      }
      EXPECT_TRUE(states[0] == states[1]) << layout;
    });
  }
}

}  // namespace
}  // namespace trefoil
