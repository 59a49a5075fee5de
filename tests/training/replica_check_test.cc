#include "training/replica_check.h"

#include <gmock/gmock.h>

#include <mutex>
#include <set>

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

// One of a bucket's buffers.
using Buffer = Tensor (*)(const BucketMemory&);
Tensor Weights(const BucketMemory& memory) { return memory.weights; }
Tensor Master(const BucketMemory& memory) { return memory.master; }
Tensor FirstMoment(const BucketMemory& memory) { return memory.state[0]; }
Tensor SecondMoment(const BucketMemory& memory) { return memory.state[1]; }

// This rank's slice of a parameter in a buffer of its bucket; undefined if another rank has it.
Tensor SliceIn(Worker& worker, const std::string& name, Buffer buffer) {
  for (BucketMemory& memory : worker.store.buckets()) {
    const int64_t start = buffer == Weights ? 0 : memory.shard_begin;
    for (const BucketEntry& entry : memory.bucket.entries) {
      if (entry.parameter->name != name) continue;
      if (entry.begin < start || entry.end() > start + buffer(memory).elements()) return Tensor();
      return buffer(memory).Range(entry.begin - start, {entry.box.extent.elements()});
    }
  }
  return Tensor();
}

// Two steps on a layout, then `damage`; what the comparison says, the same on every rank.
absl::Status CompareAfter(const std::string& layout, const std::function<void(Worker&)>& damage) {
  const RunConfig config = TinyRun(NewFolder("run"), layout);
  std::vector<absl::Status> statuses(static_cast<size_t>(RanksOf(config)));
  RunRanksAsThreads(RanksOf(config), [&](World& threads) {
    threads.set_timeout_seconds(60);
    const TestWorld world(threads);
    const std::unique_ptr<Device> device = NewTestDevice();
    Worker worker(config, *world, *device);
    worker.store.Initialize(1, worker.groups);
    const BatchSource source = [&](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
      const std::vector<int32_t> ids = LearnableIds(count * 16, 61, static_cast<uint64_t>(first));
      const HostTensor tokens(ids, {count, 16});
      return Batch{.samples = count, .length = 16, .first_sample = first, .inputs = tokens, .targets = tokens};
    };
    for (const int step : {1, 2}) CHECK(TrainStep(worker, source, step, 8 * step, 1e-3).ok());
    damage(worker);
    statuses[static_cast<size_t>(world->rank())] = CompareReplicas(worker);
  });
  for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]);
  return statuses[0];
}

struct Flip {
  const char* layout;
  const char* parameter;
  Buffer buffer;
  const char* name;  // in the message
};

const Flip kFlips[] = {
    {"parallel { data: 4 zero: NONE }", "blocks.1.mlp.up.weight", Weights, "blocks.1.mlp.up.weight"},
    {"parallel { data: 4 zero: NONE }", "head.norm.weight", SecondMoment, "adam.v/head.norm.weight"},
    {"parallel { data: 4 zero: NONE } training { precision: BF16 }", "head.norm.weight", Master,
     "master/head.norm.weight"},
    {"parallel { data: 3 } training { global_batch: 6 }", "blocks.0.attention.k.weight", Weights,
     "blocks.0.attention.k.weight"},
    {"parallel { data: 2 } training { precision: BF16 }", "blocks.0.attention.k.weight", Weights,
     "blocks.0.attention.k.weight"},
    {"parallel { data: 4 replicas: 2 }", "head.norm.weight", FirstMoment, "adam.m/head.norm.weight"},
    {"parallel { data: 4 zero: WEIGHTS replicas: 2 }", "head.norm.weight", Master, "head.norm.weight"},
    {"parallel { data: 4 zero: WEIGHTS replicas: 2 }", "head.norm.weight", SecondMoment, "adam.v/head.norm.weight"},
    {"parallel { tensor: 4 }", "blocks.3.mlp_norm.weight", Weights, "blocks.3.mlp_norm.weight"},
    {"parallel { tensor: 4 data: 1 }", "blocks.3.mlp_norm.weight", FirstMoment, "adam.m/blocks.3.mlp_norm.weight"},
    {"parallel { tensor: 2 pipeline: 2 data: 2 }", "head.norm.weight", Weights, "head.norm.weight"},
    {"model { family: GPT } parallel { pipeline: 2 }", "embedding.token.weight", Weights,
     "embedding.token.weight"},
    {"model { family: GPT } parallel { pipeline: 2 }", "embedding.token.weight", SecondMoment,
     "adam.v/embedding.token.weight"},
};

TEST(CompareReplicas, ASingleFlippedBitIsNamed) {
  for (const Flip& flip : kFlips) {
    SCOPED_TRACE(std::string(flip.layout) + " " + flip.name);
    EXPECT_TRUE(CompareAfter(flip.layout, [](Worker&) {}).ok());
    const RunConfig config = TinyRun(NewFolder("sizes"), flip.layout);
    std::set<int> holders;
    std::mutex mutex;
    CompareAfter(flip.layout, [&](Worker& worker) {
      const std::lock_guard lock(mutex);
      if (SliceIn(worker, flip.parameter, flip.buffer).defined()) holders.insert(worker.mesh.rank());
    }).IgnoreError();
    ASSERT_GE(holders.size(), 2u);
    for (const int rank : {*holders.begin(), *holders.rbegin()}) {
      for (const int bit : {0, 13}) {
        const absl::Status status = CompareAfter(flip.layout, [&](Worker& worker) {
          if (worker.mesh.rank() != rank) return;
          const Tensor slice = SliceIn(worker, flip.parameter, flip.buffer);
          FlipBit(worker.device, slice, slice.elements() - 1, bit);
        });
        EXPECT_TRUE(absl::IsDataLoss(status)) << status;
        EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(std::string(flip.name) + ": "),
                                            HasSubstr("rank " + std::to_string(rank) + " on ")));
        const auto others = static_cast<int>(holders.size()) - 1;
        if (others >= 2 && config.parallel().pipeline() == 1) {
          EXPECT_THAT(std::string(status.message()),
                      HasSubstr("holds other values than the other " + std::to_string(others)));
          for (const int other : holders) {
            if (other == rank) continue;
            EXPECT_THAT(std::string(status.message()), Not(HasSubstr("rank " + std::to_string(other) + " on ")));
          }
        }
      }
    }
  }
}

// What a rank holds alone is not compared: the share of the optimizer state that ZeRO leaves it.
TEST(CompareReplicas, SharesThatAreNoCopiesMayDiffer) {
  EXPECT_TRUE(CompareAfter("parallel { data: 2 }", [](Worker& worker) {
                FlipBit(worker.device, worker.store.buckets().front().state[0], 0, 3);
              }).ok());
  EXPECT_TRUE(CompareAfter("parallel { tensor: 2 }", [](Worker& worker) {
                const Tensor split = SliceIn(worker, "blocks.0.mlp.up.weight", FirstMoment);
                if (worker.mesh.rank() == 1) FlipBit(worker.device, split, 0, 3);
              }).ok());
}

}  // namespace
}  // namespace trefoil
