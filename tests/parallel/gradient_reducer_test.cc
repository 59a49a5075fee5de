// What the reducer sums, over which ranks, and when: a table of four parameters, ranks as threads, gradients that are small
// whole numbers, so that sums are exact.
#include "parallel/gradient_reducer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/collectives/world.h"

namespace trefoil {
namespace {

constexpr int kEmbedding = 0, kBlock = 1, kHead = 2;

ParameterTable Table() {
  ParameterTable table;
  table.Add({.name = "embedding",
             .module = kEmbedding,
             .tied_modules = {kHead},
             .shape = {6, 2},
             .splits = {{0, Axis::kTensor}}});
  table.Add({.name = "position", .module = kEmbedding, .shape = {3, 2}, .partial_over = Axis::kTensor});
  table.Add({.name = "block", .module = kBlock, .shape = {4, 2}, .splits = {{1, Axis::kTensor}}});
  table.Add({.name = "norm", .module = kBlock, .shape = {5}, .partial_over = Axis::kTensor});
  return table;
}

// A rank with its store and reducer.
struct Rank {
  Rank(World& world, MeshSizes sizes, const std::vector<int>& modules, bool split_optimizer, bool sequence_parallel,
       int micro_batches = 1, int group_sums = 0)
      : Rank(world, sizes, modules, StoreOptions{.split_optimizer = split_optimizer, .group_sums = group_sums},
             sequence_parallel, micro_batches) {}
  Rank(World& world, MeshSizes sizes, const std::vector<int>& modules, const StoreOptions& options,
       bool sequence_parallel, int micro_batches)
      : mesh(sizes, world.rank()),
        groups(world, mesh, *device, {Axis::kTensor, Axis::kData}),
        tied(world, mesh, *device, table,
             sizes[Axis::kPipeline] == 1 ? std::vector<int>{0, 0, 0} : std::vector<int>{0, 0, 1}),
        store(table, mesh, modules, *device, options),
        queue(*device, world.all().membership().patience, /*threaded=*/true),
        reducer(store, *device, queue, modules,
                {.groups = groups, .tokens = sequence_parallel ? Axis::kTensor : AxisSet(), .tied = tied,
                 .micro_batches = micro_batches,
                 .sum_groups = 1 << options.group_sums}) {}

  // Adds value x (i + 1) to element i of each gradient of the bucket.
  void AddGradients(const BucketMemory& memory, float value) {
    for (int64_t i = 0; i < memory.gradients.elements(); ++i) {
      memory.gradients.data<float>()[i] += value * static_cast<float>(i + 1);
    }
  }
  void AddGradients(float value) {
    for (BucketMemory& memory : store.buckets()) AddGradients(memory, value);
  }
  // Expects `value` x (i + 1) in this rank's shard of a parameter's gradient.
  void ExpectGradient(const std::string& name, float value) {
    for (const BucketMemory& memory : store.buckets()) {
      const int64_t begin = memory.shard_begin, end = begin + memory.shard_elements();
      for (const Piece& piece : PiecesOf(memory.bucket, begin, end)) {
        if (piece.parameter->name != name) continue;
        for (int64_t i = piece.begin; i < piece.begin + piece.box.extent.elements(); ++i) {
          EXPECT_EQ(memory.gradients.data<float>()[i], value * static_cast<float>(i + 1)) << name << " element " << i;
        }
      }
    }
  }

  const ParameterTable table = Table();
  const std::unique_ptr<Device> device = NewCpuDevice(/*threads=*/1);
  const Mesh mesh;
  const AxisGroups groups;
  const TiedGroups tied;
  ParameterStore store;
  TaskQueue queue;
  GradientReducer reducer;
};

const std::vector<int> kModules = {kEmbedding, kBlock, kHead};

TEST(GradientReducer, SumsOverTheDataRanksWhateverTheOrderOfModules) {
  for (const bool split_optimizer : {false, true}) {
    for (const std::vector<int>& order : {std::vector<int>{kHead, kBlock, kEmbedding}, {kEmbedding, kBlock, kHead}}) {
      SCOPED_TRACE(testing::Message() << "split " << split_optimizer << ", first done " << order.front());
      RunRanksAsThreads(3, [&](World& world) {
        Rank rank(world, {{Axis::kData, 3}}, kModules, split_optimizer, false);
        // Twice: the second step's modules are done anew.
        for (int step = 0; step < 2; ++step) {
          rank.AddGradients(static_cast<float>(world.rank() + 1));
          for (const int module : order) rank.reducer.ModuleAdded(module);
          rank.reducer.Finish();
          for (const char* name : {"embedding", "position", "block", "norm"}) rank.ExpectGradient(name, 6);
          for (BucketMemory& memory : rank.store.buckets()) {
            for (int64_t i = 0; i < memory.gradients.elements(); ++i) memory.gradients.data<float>()[i] = 0;
          }
        }
      });
    }
  }
}

// A tied parameter's gradient is whole when both of its modules have added to it, not before.
TEST(GradientReducer, ATiedBucketWaitsForBothOfItsModules) {
  for (const auto& [first, second] : {std::pair{kEmbedding, kHead}, std::pair{kHead, kEmbedding}}) {
    SCOPED_TRACE(first);
    RunRanksAsThreads(2, [first = first, second = second](World& world) {
      Rank rank(world, {{Axis::kData, 2}}, kModules, /*split_optimizer=*/false, false);
      BucketMemory* embedding = nullptr;
      for (BucketMemory& memory : rank.store.buckets()) {
        if (memory.bucket.UsedBy(kHead)) embedding = &memory;
      }
      ASSERT_NE(embedding, nullptr);
      rank.AddGradients(*embedding, 1);
      rank.reducer.ModuleAdded(first);
      rank.reducer.ModuleAdded(kBlock);
      rank.AddGradients(*embedding, 10);
      rank.reducer.ModuleAdded(second);
      rank.reducer.Finish();
      rank.ExpectGradient("embedding", 22);
    });
  }
}

// On two stages each holds the tied parameter and has a part of its gradient; other parameters are of one stage.
TEST(GradientReducer, ATiedParameterIsSummedOverItsStages) {
  for (const bool split_optimizer : {false, true}) {
    RunRanksAsThreads(4, [&](World& world) {
      const MeshSizes sizes = {{Axis::kData, 2}, {Axis::kPipeline, 2}};
      const bool first_stage = Mesh(sizes, world.rank()).index(Axis::kPipeline) == 0;
      Rank rank(world, sizes, first_stage ? std::vector<int>{kEmbedding} : std::vector<int>{kBlock, kHead},
                split_optimizer, false);
      rank.AddGradients(static_cast<float>(1 + world.rank()));
      if (!first_stage) rank.reducer.ModuleAdded(kHead);
      rank.reducer.ModuleAdded(first_stage ? kEmbedding : kBlock);
      rank.reducer.Finish();
      rank.ExpectGradient("embedding", 1 + 2 + 3 + 4);
      rank.ExpectGradient(first_stage ? "position" : "norm", first_stage ? 1 + 2 : 3 + 4);
    });
  }
}

// With sequence parallelism, what every tensor rank holds whole is summed over them, and only that.
TEST(GradientReducer, SequenceParallelismSumsWhatEveryTensorRankHolds) {
  for (const bool sequence_parallel : {false, true}) {
    RunRanksAsThreads(2, [&](World& world) {
      Rank rank(world, {{Axis::kTensor, 2}}, kModules, /*split_optimizer=*/false, sequence_parallel);
      const auto mine = static_cast<float>(world.rank() + 1);
      rank.AddGradients(mine);
      for (const int module : {kHead, kBlock, kEmbedding}) rank.reducer.ModuleAdded(module);
      rank.reducer.Finish();
      for (const char* name : {"position", "norm"}) rank.ExpectGradient(name, sequence_parallel ? 3 : mine);
      for (const char* name : {"embedding", "block"}) rank.ExpectGradient(name, mine);
    });
  }
}

// Split gradients are made where a module that is in use asks for them, and each micro-batch's is added to the shard; the
// tied one's when both of its modules have added. What one slot has of the head is reduced when the embedding needs it.
TEST(GradientReducer, SplitGradientsAreAddedToTheShardAfterEachMicroBatch) {
  constexpr int kMicroBatches = 3;
  RunRanksAsThreads(2, [&](World& world) {
    Rank rank(world, {{Axis::kData, 2}}, kModules, {.split_optimizer = true, .split_gradients = true},
              /*sequence_parallel=*/false, kMicroBatches);
    const auto add = [&](int module, const std::string& name, float value) {
      const ParameterStore::Use use = rank.store.UseModule(module, ParameterStore::Purposes::kGradients);
      const Tensor gradient = rank.store.View({name}).gradient();
      for (int64_t i = 0; i < gradient.elements(); ++i) gradient.data<float>()[i] += value;
    };
    const auto expect = [&](const std::string& name, float value) {
      for (const BucketMemory& memory : rank.store.buckets()) {
        EXPECT_FALSE(memory.gradients.defined());
        const int64_t begin = memory.shard_begin;
        for (const Piece& piece : PiecesOf(memory.bucket, begin, begin + memory.shard_elements())) {
          if (piece.parameter->name != name) continue;
          for (int64_t i = 0; i < piece.box.extent.elements(); ++i) {
            ASSERT_EQ(memory.gradient_shard.data<float>()[piece.begin - begin + i], value) << name;
          }
        }
      }
    };
    const auto mine = static_cast<float>(world.rank() + 1);
    for (int step = 0; step < 2; ++step) {
      for (int i = 0; i < kMicroBatches; ++i) {
        add(kHead, "embedding", mine);
        rank.reducer.ModuleAdded(kHead);
        add(kBlock, "block", 10 * mine);
        add(kBlock, "norm", 100 * mine);
        rank.reducer.ModuleAdded(kBlock);
        add(kEmbedding, "embedding", 2 * mine);
        add(kEmbedding, "position", mine);
        rank.reducer.ModuleAdded(kEmbedding);
      }
      rank.reducer.Finish();
      expect("embedding", kMicroBatches * 3 * 3);
      expect("block", kMicroBatches * 10 * 3);
      expect("norm", kMicroBatches * 100 * 3);
      expect("position", kMicroBatches * 3);
      for (BucketMemory& memory : rank.store.buckets()) {
        std::fill_n(memory.gradient_shard.data<float>(), memory.gradient_shard.elements(), 0.0f);
      }
    }
  });
}

// Eight micro-batches whose gradients lose bits when they are added: on one rank in one to eight groups, and on two and
// four ranks in as many groups in all. Each number of groups has its sum, whatever the ranks; steps do not mix.
TEST(GradientReducer, GroupsOfMicroBatchesAreAddedInOneOrder) {
  const auto gradient = [](int micro_batch) {
    return std::ldexp(1.0f + static_cast<float>(micro_batch) / 7, 3 * (micro_batch % 5));
  };
  for (const int groups : {1, 2, 4, 8}) {
    float expected = 0;  // neighbours first, of sums of groups in order
    std::vector<float> sums;
    for (int first = 0; first < 8; first += 8 / groups) {
      float sum = 0;
      for (int i = first; i < first + 8 / groups; ++i) sum += gradient(i);
      sums.push_back(sum);
    }
    for (; sums.size() > 1; sums.resize(sums.size() / 2)) {
      for (size_t i = 0; i < sums.size() / 2; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
    }
    expected = sums[0];
    for (const int ranks : {1, 2, 4}) {
      if (ranks > groups) continue;
      SCOPED_TRACE(testing::Message() << groups << " groups, " << ranks << " ranks");
      RunRanksAsThreads(ranks, [&](World& world) {
        const int mine = 8 / ranks;
        Rank rank(world, {{Axis::kData, ranks}}, kModules, /*split_optimizer=*/ranks == 2, false, mine,
                  std::countr_zero(static_cast<unsigned>(groups / ranks)));
        for (int step = 0; step < 2; ++step) {
          for (int i = world.rank() * mine; i < (world.rank() + 1) * mine; ++i) {
            for (BucketMemory& memory : rank.store.buckets()) {
              for (int64_t j = 0; j < memory.gradients.elements(); ++j) {
                memory.gradients.data<float>()[j] += gradient(i);
              }
            }
            for (const int module : {kHead, kBlock, kEmbedding}) rank.reducer.ModuleAdded(module);
          }
          rank.reducer.Finish();
          for (BucketMemory& memory : rank.store.buckets()) {
            const Tensor shard = memory.gradient_shard;
            for (int64_t j = 0; j < shard.elements(); ++j) {
              ASSERT_EQ(shard.data<float>()[j], expected) << "step " << step;
            }
            std::fill_n(memory.gradients.data<float>(), memory.gradients.elements(), 0.0f);
          }
        }
      });
    }
  }
}

// Each data rank updates its shard; after the gathers all have the whole.
TEST(GradientReducer, GathersTheShardsOfWeights) {
  RunRanksAsThreads(3, [&](World& world) {
    Rank rank(world, {{Axis::kData, 3}}, kModules, /*split_optimizer=*/true, false);
    for (BucketMemory& memory : rank.store.buckets()) {
      const Tensor shard = memory.weight_shard;
      for (int64_t i = 0; i < shard.elements(); ++i) {
        shard.data<float>()[i] = static_cast<float>(memory.shard_begin + i);
      }
      rank.reducer.GatherWeights(memory);
    }
    rank.reducer.FinishGathers();
    for (const BucketMemory& memory : rank.store.buckets()) {
      for (int64_t i = 0; i < memory.weights.elements(); ++i) {
        ASSERT_EQ(memory.weights.data<float>()[i], static_cast<float>(i));
      }
    }
  });
}

}  // namespace
}  // namespace trefoil
