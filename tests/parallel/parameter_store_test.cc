#include "parallel/parameter_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <map>
#include <mutex>
#include <set>

#include "parallel/collectives/world.h"
#include "parallel/weight_gatherer.h"
#include "runtime/ops.h"
#include "tests/parallel/example_table.h"
#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"

namespace trefoil {
namespace {

using Elements = ParameterStore::Elements;

struct Layout {
  MeshSizes sizes;
  bool split_optimizer;
  DType working;
  bool split_weights = false;  // and gradients
  int copies = 1;
};

const Layout kLayouts[] = {
    {{}, true, DType::kFloat32},
    {{{Axis::kTensor, 2}}, false, DType::kFloat32},
    {{{Axis::kData, 3}}, true, DType::kFloat32},
    {{{Axis::kData, 3}}, false, DType::kBFloat16},
    {{{Axis::kTensor, 2}, {Axis::kData, 2}, {Axis::kPipeline, 2}}, true, DType::kBFloat16},
    {{{Axis::kTensor, 2}, {Axis::kData, 2}, {Axis::kPipeline, 2}}, false, DType::kFloat32},
    {{{Axis::kTensor, 2}, {Axis::kData, 2}, {Axis::kPipeline, 2}}, true, DType::kBFloat16, true},
    {{{Axis::kData, 3}}, true, DType::kFloat32, true},
    {{{Axis::kTensor, 2}, {Axis::kData, 4}}, true, DType::kFloat32, false, 2},
};

// Modules 0 to 3 over the stages.
std::vector<int> ModulesOf(const Mesh& mesh) {
  if (mesh.size(Axis::kPipeline) == 1) return {0, 1, 2, 3};
  return mesh.index(Axis::kPipeline) == 0 ? std::vector<int>{0, 1} : std::vector<int>{2, 3};
}

// Two tensors of state for each parameter.
const OptimizerLayout kMoments = {.groups = {{.state = {"adam.m", "adam.v"}}}};

// Runs body(store, groups, device) on every rank of a layout.
void OnEveryRank(const Layout& layout, const std::function<void(ParameterStore&, const AxisGroups&, Device&)>& body) {
  const ParameterTable table = ExampleTable();
  RunRanksAsThreads(layout.sizes.ranks(), [&](World& threads) {
    const TestWorld world(threads);
    const auto device = NewTestDevice();
    const Mesh mesh(layout.sizes, world->rank());
    const AxisGroups groups(*world, mesh, *device, {Axis::kData}, RankSums::kOrdered, layout.copies);
    ParameterStore store(
        table, mesh, ModulesOf(mesh), *device,
        {.working = layout.working, .optimizer = kMoments, .split_optimizer = layout.split_optimizer,
         .split_gradients = layout.split_weights, .split_weights = layout.split_weights, .copies = layout.copies});
    body(store, groups, *device);
  });
}

float Value(const std::string& name, size_t global) { return static_cast<float>(name.size() * 1000 + global); }

// What each rank's slices of a kind say of the global tensors.
struct Seen {
  std::map<std::string, std::vector<float>> values;
  std::map<std::string, std::vector<int>> counts;
};
void Collect(ParameterStore& store, Elements elements, Seen* seen) {
  std::set<std::string> names;
  for (int i = 0; i < store.state_parts(); ++i) {
    const ParameterStore::StatePart part = store.State(i, elements);
    std::set<std::string> names_of_part;
    for (const ShardedTensor& slice : part.slices) {
      names_of_part.insert(slice.name);
      auto& values = seen->values[slice.name];
      auto& counts = seen->counts[slice.name];
      values.resize(static_cast<size_t>(slice.global.elements()));
      counts.resize(values.size());
      ForEachElement(slice.global, slice.box, [&](size_t global, size_t local) {
        std::memcpy(&values[global], slice.data + local * sizeof(float), sizeof(float));
        ++counts[global];
      });
    }
    for (const std::string& name : names_of_part) EXPECT_TRUE(names.insert(name).second) << name << " is in two parts";
  }
}

TEST(ParameterStore, OwnedSlicesOfAllRanksHoldEachElementOnce) {
  for (const Layout& layout : kLayouts) {
    std::mutex mutex;
    Seen owned, held;
    OnEveryRank(layout, [&](ParameterStore& store, const AxisGroups& groups, Device&) {
      store.Initialize(/*seed=*/5, groups);
      const std::lock_guard lock(mutex);
      Collect(store, Elements::kOwned, &owned);
      Collect(store, Elements::kHeld, &held);
    });
    const ParameterTable table = ExampleTable();
    EXPECT_EQ(owned.counts.size(), 3 * table.all().size());
    for (const auto& [name, counts] : owned.counts) {
      for (const int count : counts) ASSERT_EQ(count, 1) << name;
      EXPECT_EQ(held.values[name], owned.values[name]) << name;
      for (const int count : held.counts[name]) ASSERT_GE(count, 1) << name;
    }
  }
}

// Of what ranks hold alike each lists a part: with replicated parameters too, no rank writes much more than the others
// of its stage.
TEST(ParameterStore, OwnedSlicesAreSharedOutEvenly) {
  ParameterTable table;
  for (int block = 0; block < 4; ++block) {
    const std::string prefix = "blocks." + std::to_string(block) + ".";
    table.Add({.name = prefix + "up", .module = block, .shape = {256, 64}, .splits = {{0, Axis::kTensor}}});
    table.Add({.name = prefix + "down", .module = block, .shape = {64, 256}, .splits = {{1, Axis::kTensor}}});
    table.Add({.name = prefix + "norm", .module = block, .shape = {64}});
  }
  struct Case {
    MeshSizes sizes;
    StoreOptions options;
  };
  const Case cases[] = {
      {{{Axis::kData, 8}}, {.optimizer = kMoments}},
      {{{Axis::kTensor, 2}, {Axis::kData, 4}}, {.optimizer = kMoments}},
      {{{Axis::kTensor, 2}, {Axis::kContext, 2}, {Axis::kPipeline, 2}, {Axis::kData, 2}}, {.optimizer = kMoments}},
      {{{Axis::kData, 8}}, {.optimizer = kMoments, .split_optimizer = true}},
      {{{Axis::kData, 8}}, {.optimizer = kMoments, .split_optimizer = true, .copies = 2}},
      {{{Axis::kTensor, 2}, {Axis::kData, 4}}, {.optimizer = kMoments, .split_optimizer = true, .copies = 4}},
  };
  for (const Case& c : cases) {
    const int ranks = c.sizes.ranks(), stages = c.sizes[Axis::kPipeline];
    int64_t all = 0, most = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto device = NewTestDevice();
      const Mesh mesh(c.sizes, rank);
      std::vector<int> modules;
      for (int i = 0; i < 4 / stages; ++i) modules.push_back(4 / stages * mesh.index(Axis::kPipeline) + i);
      const ParameterStore store(table, mesh, modules, *device, c.options);
      int64_t bytes = 0;
      for (int i = 0; i < store.state_parts(); ++i) {
        for (const ShardedTensor& slice : store.State(i, Elements::kOwned).slices) bytes += slice.bytes();
      }
      all += bytes;
      most = std::max(most, bytes);
    }
    std::cout << ranks << " ranks: " << all / ranks << " bytes in the mean, " << most << " at most\n";
    EXPECT_EQ(all, 3 * 4 * table.elements());
    EXPECT_LE(most, 1.1 * static_cast<double>(all) / ranks);
  }
}

TEST(ParameterStore, InitialValuesAreThoseOfAnyLayout) {
  Seen first;
  for (const Layout& layout : kLayouts) {
    std::mutex mutex;
    Seen owned;
    OnEveryRank(layout, [&](ParameterStore& store, const AxisGroups& groups, Device& device) {
      store.Initialize(/*seed=*/5, groups);
      const std::lock_guard lock(mutex);
      Collect(store, Elements::kOwned, &owned);
      // Gradients and the padding are zeros.
      for (BucketMemory& memory : store.buckets()) {
        for (const Tensor& zeros : {memory.gradient_shard, memory.state[0], memory.state[1]}) {
          EXPECT_EQ(SumOfSquares(device, zeros), 0);
        }
      }
    });
    if (first.values.empty()) first = owned;
    for (const auto& [name, values] : first.values) EXPECT_EQ(owned.values[name], values) << name;
  }
  EXPECT_NE(first.values["token"][0], first.values["token"][1]);
  EXPECT_EQ(first.values["norm"], std::vector<float>(5, 1));
  EXPECT_EQ(first.values["adam.m/token"], std::vector<float>(55, 0));
}

// What is given by slices arrives in the weights that the layers see, on every data rank, in the working dtype.
TEST(ParameterStore, WhatIsLoadedIsWhatTheLayersSee) {
  for (const Layout& layout : kLayouts) {
    OnEveryRank(layout, [&](ParameterStore& store, const AxisGroups& groups, Device& device) {
      for (int i = 0; i < store.state_parts(); ++i) {
        const ParameterStore::StatePart part = store.State(i, Elements::kToFill);
        for (const ShardedTensor& slice : part.slices) {
          ForEachElement(slice.global, slice.box, [&](size_t global, size_t local) {
            const float value = Value(slice.name, global);
            std::memcpy(slice.data + local * sizeof(float), &value, sizeof(float));
          });
        }
        store.TakeBack(part);
      }
      store.PublishMasterWeights(groups);
      TaskQueue queue(device, groups[Axis::kData].membership().patience, /*threaded=*/true);
      WeightGatherer gatherer(store, device, groups, queue);
      for (const BucketMemory& memory : store.buckets()) {
        gatherer.Begin({memory.bucket.module});
        const ParameterStore::Use use = store.UseModule(memory.bucket.module);
        double squares = 0;
        for (const BucketEntry& entry : memory.bucket.entries) {
          const Tensor weight = store.View({entry.parameter->name}).weight();
          ASSERT_EQ(weight.shape(), entry.box.extent);
          std::vector<std::byte> bits(static_cast<size_t>(weight.bytes()));
          device.Download(weight, bits.data());
          ForEachElement(entry.parameter->shape, entry.box, [&](size_t global, size_t local) {
            float found = 0;
            if (layout.working == DType::kFloat32) {
              std::memcpy(&found, &bits[local * 4], 4);
            } else {
              std::memcpy(reinterpret_cast<std::byte*>(&found) + 2, &bits[local * 2], 2);
            }
            const float value = Value(entry.parameter->name, global);
            const float tolerance = layout.working == DType::kFloat32 ? 0 : value / 256;
            ASSERT_NEAR(found, value, tolerance) << entry.parameter->name << " " << global;
            squares += static_cast<double>(found) * found;
          });
        }
        if (layout.working == DType::kFloat32) {
          EXPECT_NEAR(SumOfSquares(device, memory.weights) / squares, 1, 1e-6) << "the padding is not zero";
        }
      }
    });
  }
}

// A parameter that is split over an axis along which others are replicated: each replica has its own part, nothing of
// it is gathered, and all parts together are the whole, once.
TEST(ParameterStore, AParameterMayBeSplitWhereOthersAreReplicated) {
  ParameterTable table;
  table.Add({.name = "router", .module = 0, .shape = {4, 3}, .initial = Initial::kNormal, .deviation = 1});
  table.Add({.name = "experts", .module = 0, .shape = {4, 2, 3}, .splits = {{0, Axis::kData}},
             .initial = Initial::kNormal, .deviation = 1});
  for (const bool split_optimizer : {false, true}) {
    std::mutex mutex;
    Seen owned, alone;
    for (const int ranks : {1, 2}) {
      RunRanksAsThreads(ranks, [&](World& threads) {
        const TestWorld world(threads);
        const auto device = NewTestDevice();
        const Mesh mesh({{Axis::kData, ranks}}, world->rank());
        const AxisGroups groups(*world, mesh, *device, {Axis::kData, AxisSet()});
        ParameterStore store(table, mesh, {0}, *device, {.optimizer = kMoments, .split_optimizer = split_optimizer});
        store.Initialize(5, groups);
        EXPECT_EQ(store.Weight({"experts"}).shape(), (Shape{4 / ranks, 2, 3}));
        EXPECT_EQ(store.Weight({"router"}).shape(), (Shape{4, 3}));
        const std::lock_guard lock(mutex);
        Collect(store, Elements::kOwned, ranks == 1 ? &alone : &owned);
      });
    }
    for (const auto& [name, counts] : owned.counts) {
      for (const int count : counts) ASSERT_EQ(count, 1) << name;
      EXPECT_EQ(owned.values[name], alone.values[name]) << name;
    }
    EXPECT_EQ(owned.counts["adam.v/experts"].size(), 24u);
  }
}

TEST(ParameterStore, FusedParametersAreOneMatrix) {
  OnEveryRank(kLayouts[1], [&](ParameterStore& store, const AxisGroups& groups, Device& device) {
    store.Initialize(5, groups);
    const Tensor all = store.Weight({"blocks.1.q", "blocks.1.k", "blocks.1.v"});
    ASSERT_EQ(all.shape(), (Shape{12, 5}));
    EXPECT_EQ(store.Gradient({"blocks.1.q", "blocks.1.k", "blocks.1.v"}).shape(), (Shape{12, 5}));
    std::vector<float> whole(60), part(20);
    device.Download(all, whole.data());
    int at = 0;
    for (const char* name : {"blocks.1.q", "blocks.1.k", "blocks.1.v"}) {
      device.Download(store.Weight({name}), part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 20 * at++)) << name;
    }
  });
}

// A view's tensors are there while its module is in use, and a tied parameter's while one of its two modules is.
TEST(ParameterStoreDeathTest, ViewsAreForModulesInUse) {
  const ParameterTable table = ExampleTable();
  const auto device = NewTestDevice();
  const ParameterStore store(table, Mesh({}, 0), {0, 1, 2, 3}, *device, {});
  const ParameterView output = store.View({"blocks.1.output"}), token = store.View({"token"});
  EXPECT_EQ(output.shape(), (Shape{5, 9}));
  EXPECT_DEATH(output.weight(), "weights of module 1 are not in use");
  {
    const ParameterStore::Use use = store.UseModule(1);
    {
      const ParameterStore::Use again = store.UseModule(1);
    }
    EXPECT_EQ(output.weight().raw(), store.Weight({"blocks.1.output"}).raw());
    EXPECT_EQ(output.gradient().raw(), store.Gradient({"blocks.1.output"}).raw());
    EXPECT_DEATH(token.weight(), "weights of module 0 are not in use");
  }
  EXPECT_DEATH(output.gradient(), "gradients of module 1 are not in use");
  for (const int module : {0, 3}) {
    const ParameterStore::Use use = store.UseModule(module);
    EXPECT_TRUE(token.weight().defined());
  }
  EXPECT_FALSE(ParameterView().weight().defined());
}

TEST(ParameterStoreDeathTest, WhatIsNotStoredSoCannotBeViewedSo) {
  const ParameterTable table = ExampleTable();
  const auto device = NewNullDevice();
  const ParameterStore store(table, Mesh({{Axis::kTensor, 2}}, 0), {0, 1}, *device, {});
  EXPECT_DEATH(store.Weight({"blocks.1.q", "blocks.1.v"}), "not stored behind");
  EXPECT_DEATH(store.Weight({"blocks.1.output", "blocks.1.bias"}), "is not fused with");
  EXPECT_DEATH(store.Weight({"blocks.2.q"}), "does not hold parameter blocks.2.q");
}

// Where the host does not reach the device's memory: copies of what is asked for only, one buffer at a time.
TEST(ParameterStore, CopiesToTheHostOnlyWhatIsOwnedABufferAtATime) {
  const ParameterTable table = ExampleTable();
  const auto device = NewNullDevice();
  ASSERT_FALSE(device->host_addressable());
  for (int rank = 0; rank < 2; ++rank) {
    ParameterStore store(table, Mesh({{Axis::kData, 2}}, rank), {0, 1, 2, 3}, *device,
                         {.working = DType::kBFloat16, .optimizer = kMoments});
    int64_t largest = 0;
    for (int i = 0; i < store.state_parts(); ++i) {
      const auto owned = store.State(i, Elements::kOwned), held = store.State(i, Elements::kHeld);
      EXPECT_EQ(owned.copy == nullptr, owned.slices.empty());
      EXPECT_TRUE(owned.slices.empty() || owned.tensor.bytes() <= held.tensor.bytes() / 2) << "of two data ranks";
      for (const ShardedTensor& slice : owned.slices) {
        EXPECT_GE(slice.data, owned.copy.get());
        EXPECT_LE(slice.data + slice.bytes(), owned.copy.get() + owned.tensor.bytes());
      }
      EXPECT_NE(held.copy, nullptr);
      for (const ShardedTensor& slice : held.slices) {
        EXPECT_GE(slice.data, held.copy.get());
        EXPECT_LE(slice.data + slice.bytes(), held.copy.get() + held.tensor.bytes());
      }
      largest = std::max(largest, held.tensor.bytes());
    }
    EXPECT_EQ(store.state_parts(), 3 * static_cast<int>(store.buckets().size()));
    EXPECT_EQ(store.most_copied_bytes(), largest);
  }
  const ParameterStore frozen(table, Mesh({}, 0), {0, 1, 2, 3}, *device, {.trainable = false});
  EXPECT_EQ(frozen.state_parts(), 5);
  EXPECT_EQ(frozen.State(0, Elements::kHeld).slices[0].name, "position");
}

// Working weights alone: what is loaded goes through float32 on the host.
TEST(ParameterStore, WithoutMasterWeightsIsFilledAndReadThroughCopies) {
  const ParameterTable table = ExampleTable();
  const auto device = NewCpuDevice(1);
  ParameterStore store(table, Mesh({}, 0), {0, 1, 2, 3}, *device, {.working = DType::kBFloat16, .trainable = false});
  const MemoryUse use = device->memory();
  EXPECT_EQ(use.current[static_cast<size_t>(Purpose::kOptimizer)], 0);
  EXPECT_EQ(use.current[static_cast<size_t>(Purpose::kGradients)], 0);
  float value = 1;
  int64_t largest = 0;
  for (int i = 0; i < store.state_parts(); ++i, value += 1) {
    const auto part = store.State(i, Elements::kToFill);
    ASSERT_NE(part.copy, nullptr);
    largest = std::max(largest, part.tensor.elements() * 4);
    for (const ShardedTensor& slice : part.slices) {
      auto* elements = reinterpret_cast<float*>(slice.data);
      std::fill_n(elements, slice.box.extent.elements(), value + 0.001f);  // no bf16 number
    }
    store.TakeBack(part);
  }
  EXPECT_EQ(store.most_copied_bytes(), largest);
  value = 1;
  for (int i = 0; i < store.state_parts(); ++i, value += 1) {
    for (const ShardedTensor& slice : store.State(i, Elements::kHeld).slices) {
      EXPECT_EQ(*reinterpret_cast<const float*>(slice.data), value) << slice.name;
    }
  }
}

}  // namespace
}  // namespace trefoil
