// What saving and loading cost each of many ranks: messages, bytes, memory and files, with real ranks as threads.
//
// The model is small, but its slices are those of a large one: 16 blocks of 8 parameters, two moments each, every bucket
// cut over all data ranks (ZeRO stage 3). The table that it prints is in docs/checkpoint_format.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iostream>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "checkpoint/writer.h"
#include "parallel/axis_groups.h"
#include "parallel/collectives/world.h"
#include "parallel/parameter_store.h"
#include "runtime/files/file.h"
#include "tests/runtime/files/odd_file_systems.h"

namespace {

// What one rank has taken from the heap and not given back, whoever gives it back, and the most of it so far.
struct Heap {
  std::atomic<int64_t> now = 0, most = 0;
};
thread_local Heap* heap_of_this_thread = nullptr;

struct alignas(std::max_align_t) Header {
  Heap* heap;
  size_t bytes;
};

}  // namespace

void* operator new(size_t bytes) {
  auto* const header = static_cast<Header*>(std::malloc(sizeof(Header) + bytes));
  if (header == nullptr) std::abort();
  *header = {.heap = heap_of_this_thread, .bytes = bytes};
  if (Heap* const heap = header->heap) {
    const int64_t now = heap->now += static_cast<int64_t>(bytes);
    int64_t most = heap->most;
    while (most < now && !heap->most.compare_exchange_weak(most, now)) {
    }
  }
  return header + 1;
}
void operator delete(void* memory) noexcept {
  if (memory == nullptr) return;
  auto* const header = static_cast<Header*>(memory) - 1;
  if (header->heap != nullptr) header->heap->now -= static_cast<int64_t>(header->bytes);
  std::free(header);
}
// All of them: sanitizers have their own, which know nothing of the header.
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return operator new(bytes); }
void* operator new[](size_t bytes) { return operator new(bytes); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return operator new(bytes); }
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { operator delete(memory); }
void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete[](void* memory, size_t) noexcept { operator delete(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { operator delete(memory); }

namespace trefoil {
namespace {

using Elements = ParameterStore::Elements;

constexpr int kBlocks = 16;
const OptimizerLayout kMoments = {.groups = {{.state = {"adam.m", "adam.v"}}}};

ParameterTable Model() {
  ParameterTable table;
  const auto add = [&](const std::string& name, int module, const Shape& shape, int split_dim) {
    table.Add({.name = name, .module = module, .shape = shape, .splits = {{.dim = split_dim, .axis = Axis::kTensor}},
               .initial = Initial::kNormal, .deviation = 1});
  };
  add("embedding", 0, {1024, 64}, 0);
  for (int block = 1; block <= kBlocks; ++block) {
    const std::string prefix = "blocks." + std::to_string(block) + ".";
    for (const char* name : {"q", "k", "v"}) add(prefix + name, block, {64, 64}, 0);
    add(prefix + "output", block, {64, 64}, 1);
    add(prefix + "up", block, {256, 64}, 0);
    add(prefix + "down", block, {64, 256}, 1);
    for (const char* name : {"norm_1", "norm_2"}) {
      table.Add({.name = prefix + name, .module = block, .shape = {64}, .initial = Initial::kOnes});
    }
  }
  add("head", kBlocks + 1, {1024, 64}, 0);
  return table;
}

// Stages of as many modules, the last of what is left.
std::vector<int> ModulesOf(const Mesh& mesh) {
  constexpr int kModules = kBlocks + 2;
  const int stages = mesh.size(Axis::kPipeline), stage = mesh.index(Axis::kPipeline);
  std::vector<int> modules;
  for (int i = kModules * stage / stages; i < kModules * (stage + 1) / stages; ++i) modules.push_back(i);
  return modules;
}

// Counts what is opened and read.
class CountingFileSystem final : public PassingFileSystem {
 public:
  using PassingFileSystem::PassingFileSystem;
  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) override {
    TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<ReadableFile> file, PassingFileSystem::Open(path));
    ++opened;
    return std::make_unique<File>(*this, std::move(file));
  }
  int64_t opened = 0, bytes_read = 0;

 private:
  class File final : public ReadableFile {
   public:
    File(CountingFileSystem& counts, std::unique_ptr<ReadableFile> file) : counts_(counts), file_(std::move(file)) {}
    int64_t size() const override { return file_->size(); }
    absl::Status Read(int64_t offset, std::span<std::byte> out) const override {
      counts_.bytes_read += static_cast<int64_t>(out.size());
      return file_->Read(offset, out);
    }

   private:
    CountingFileSystem& counts_;
    const std::unique_ptr<ReadableFile> file_;
  };
};

enum Figure { kMessages, kBytesSent, kHeap, kOpened, kBytesRead, kFigures };
constexpr const char* kNames[] = {"messages sent", "bytes sent", "heap, most", "files opened", "bytes read"};

// Of one phase on one rank.
using Cost = std::array<int64_t, kFigures>;

class Meter {
 public:
  Meter(Group& all, CountingFileSystem& fs, Heap& heap) : all_(all), fs_(fs), heap_(heap), before_(Now()) {
    heap_.most = heap_.now.load();
    heap_before_ = heap_.now;
  }
  Cost Since() const {
    Cost cost = Now();
    for (size_t i = 0; i < cost.size(); ++i) cost[i] -= before_[i];
    cost[kHeap] = heap_.most - heap_before_;
    return cost;
  }

 private:
  Cost Now() const { return {all_.messages_sent(), all_.bytes_sent(), 0, fs_.opened, fs_.bytes_read}; }
  Group& all_;
  CountingFileSystem& fs_;
  Heap& heap_;
  const Cost before_;
  int64_t heap_before_;
};

struct Costs {
  int ranks;
  std::string phase;
  Cost mean = {}, most = {};
};

Costs Over(const std::string& phase, const std::vector<Cost>& of_ranks) {
  Costs costs = {.ranks = static_cast<int>(of_ranks.size()), .phase = phase};
  for (size_t i = 0; i < kFigures; ++i) {
    for (const Cost& cost : of_ranks) {
      costs.mean[i] += cost[i];
      costs.most[i] = std::max(costs.most[i], cost[i]);
    }
    costs.mean[i] /= costs.ranks;
  }
  return costs;
}

struct Rank {
  World& world;
  ParameterStore& store;
  const AxisGroups& groups;
  CountingFileSystem& fs;
  Heap& heap;
};
void OnEveryRank(const MeshSizes& sizes, const std::function<void(const Rank&)>& body) {
  static const ParameterTable table = Model();
  // Kept for ever: a rank may have made what outlives it.
  static auto* const heaps_of_runs = new std::deque<std::vector<Heap>>;
  std::vector<Heap>& heaps = heaps_of_runs->emplace_back(static_cast<size_t>(sizes.ranks()));
  RunRanksAsThreads(sizes.ranks(), [&](World& world) {
    Heap& heap = heaps[static_cast<size_t>(world.rank())];
    heap_of_this_thread = &heap;
    {
      const auto device = NewCpuDevice(/*threads=*/1);
      const Mesh mesh(sizes, world.rank());
      const AxisGroups groups(world, mesh, *device, {});
      const StoreOptions options = {
          .optimizer = kMoments, .split_optimizer = true, .split_gradients = true, .split_weights = true};
      ParameterStore store(table, mesh, ModulesOf(mesh), *device, options);
      CountingFileSystem fs(FileSystem::Posix());
      body({.world = world, .store = store, .groups = groups, .fs = fs, .heap = heap});
    }
    world.all().Barrier();
    heap_of_this_thread = nullptr;
  }, {.rendezvous = true});  // what is sent is in the sender's memory, once, however late its receiver comes
}

std::string Folder() { return testing::TempDir() + "/scale"; }

Costs Save(const MeshSizes& sizes) {
  std::vector<Cost> costs(static_cast<size_t>(sizes.ranks()));
  OnEveryRank(sizes, [&](const Rank& rank) {
    const auto& [world, store, groups, fs, heap] = rank;
    store.Initialize(/*seed=*/1, groups);
    for (BucketMemory& memory : store.buckets()) {  // the moments as the weights
      for (const Tensor& state : memory.state) {
        std::memcpy(state.raw(), memory.master.raw(), static_cast<size_t>(state.bytes()));
      }
    }
    CheckpointContent content;
    content.step = 1;
    content.model = content.trainer_state = std::string(1000, 'x');
    content.owner = "a";
    content.parts = store.state_parts();
    content.part = [&](int i) { return store.State(i, Elements::kOwned).slices; };
    world.all().Barrier();
    const Meter meter(world.all(), fs, heap);
    ASSERT_EQ(WriteCheckpoint(fs, world.all(), Folder(), content), absl::OkStatus());
    costs[static_cast<size_t>(world.rank())] = meter.Since();
  });
  return Over("save", costs);
}

Costs Load(const MeshSizes& sizes, const std::string& phase) {
  std::vector<Cost> costs(static_cast<size_t>(sizes.ranks()));
  OnEveryRank(sizes, [&](const Rank& rank) {
    const auto& [world, store, groups, fs, heap] = rank;
    std::vector<ShardedTensor> all;
    for (int i = 0; i < store.state_parts(); ++i) {
      const auto part = store.State(i, Elements::kToFill);
      all.insert(all.end(), part.slices.begin(), part.slices.end());
    }
    world.all().Barrier();
    {
      const Meter meter(world.all(), fs, heap);
      auto reader = CheckpointReader::OpenOnAll(fs, world.all(), CheckpointPath(Folder(), 1));
      ASSERT_EQ(reader.status(), absl::OkStatus());
      ASSERT_EQ(reader->Locate(world.all(), all), absl::OkStatus());
      ASSERT_EQ(world.all().Agree(reader->Read(all)), absl::OkStatus());
      costs[static_cast<size_t>(world.rank())] = meter.Since();
    }
    // Every rank has what a fresh start gives it.
    std::vector<std::vector<float>> loaded;
    for (const BucketMemory& memory : store.buckets()) {
      const auto* const values = memory.master.data<float>();
      loaded.emplace_back(values, values + memory.master.elements());
      for (const Tensor& state : memory.state) {
        EXPECT_EQ(std::memcmp(state.raw(), memory.master.raw(), static_cast<size_t>(state.bytes())), 0);
      }
    }
    store.Initialize(/*seed=*/1, groups);
    for (size_t i = 0; i < loaded.size(); ++i) {
      const auto* const values = store.buckets()[i].master.data<float>();
      EXPECT_TRUE(std::equal(loaded[i].begin(), loaded[i].end(), values));
    }
  });
  return Over(phase, costs);
}

void Print(const std::vector<Costs>& table) {
  for (const Costs& row : table) {
    std::string line = "| " + row.phase + " | " + std::to_string(row.ranks);
    for (size_t i = 0; i < kFigures; ++i) {
      line += " | " + std::to_string(row.mean[i]) + " | " + std::to_string(row.most[i]);
    }
    std::cout << line << " |\n";
  }
}

TEST(Scale, ARankPaysForItsShareAndTheLogarithmOfTheRanks) {
  std::vector<Costs> saves, loads, others;
  for (const int ranks : {64, 256, 1024}) {
    ASSERT_TRUE(FileSystem::Posix().Remove(Folder()).ok());
    const MeshSizes flat = {{Axis::kData, ranks}};
    const MeshSizes other = {{Axis::kTensor, 4}, {Axis::kPipeline, 2}, {Axis::kData, ranks / 8}};
    saves.push_back(Save(flat));
    loads.push_back(Load(flat, "load"));
    others.push_back(Load(other, "load, other layout"));
  }
  std::cout << "| phase | ranks";
  for (const char* name : kNames) std::cout << " | " << name << ", mean | most";
  std::cout << " |\n";
  for (const auto* table : {&saves, &loads, &others}) Print(*table);

  for (const auto* table : {&saves, &loads, &others}) {
    const bool save = table == &saves;
    const Costs &few = table->front(), &many = table->back();  // 16 times as many ranks
    for (const Costs& costs : *table) {
      SCOPED_TRACE(costs.phase + " on " + std::to_string(costs.ranks));
      const int64_t logarithm = std::bit_width(static_cast<unsigned>(costs.ranks)) - 1;
      EXPECT_LE(costs.most[kMessages], (save ? 8 : 12) * logarithm);
      // The data file and the part of the rank before it; its own part, what is in its share, and rank 0's manifest.
      EXPECT_LE(costs.most[kOpened], save ? 2 : table == &loads ? 3 : 12);
    }
    // A share of the model is the less the more ranks there are, its slices are about as many.
    EXPECT_LE(many.mean[kBytesSent], 2 * few.mean[kBytesSent]);
    EXPECT_LE(many.most[kBytesSent], 4 * few.most[kBytesSent]);
    EXPECT_LE(many.most[kHeap], 2.5 * few.most[kHeap]);
    EXPECT_LE(many.most[kBytesRead], few.most[kBytesRead]);
  }
}

}  // namespace
}  // namespace trefoil
