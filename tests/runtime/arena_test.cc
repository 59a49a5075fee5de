#include "runtime/arena.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <set>
#include <thread>
#include <vector>

namespace trefoil {
namespace {

// Counts what is taken from and given back to the system.
class ArenaTest : public testing::Test {
 protected:
  std::mutex mutex_;
  std::set<void*> taken_;
  std::shared_ptr<Arena> arena_ = Arena::Create(
      [this](int64_t bytes) {
        std::lock_guard lock(mutex_);
        void* data = std::aligned_alloc(64, static_cast<size_t>(bytes));
        taken_.insert(data);
        return data;
      },
      [this](void* data, int64_t) {
        EXPECT_EQ(taken_.erase(data), 1u);
        std::free(data);
      });
};

TEST_F(ArenaTest, HandsFreedBlocksOutAgain) {
  void* first = nullptr;
  {
    const Arena::Block block = arena_->Allocate(100, Purpose::kActivations);
    first = block.data;
  }
  EXPECT_EQ(arena_->Allocate(128, Purpose::kWeights).data, first);  // 100 and 128 round to one size
  EXPECT_EQ(arena_->acquisitions(), 1);
  const Arena::Block a = arena_->Allocate(128, Purpose::kWeights), b = arena_->Allocate(128, Purpose::kWeights);
  EXPECT_NE(a.data, b.data);
  EXPECT_EQ(arena_->acquisitions(), 2);
  const Arena::Block other = arena_->Allocate(192, Purpose::kWeights);
  EXPECT_EQ(arena_->acquisitions(), 3);
}

TEST_F(ArenaTest, LargerBlocksServeWhereThatIsAskedFor) {
  std::set<void*> free;
  {
    const Arena::Block small = arena_->Allocate(640, Purpose::kActivations);
    const Arena::Block large = arena_->Allocate(6400, Purpose::kActivations);
    free = {small.data, large.data};
  }
  { const Arena::Block of_its_size = arena_->Allocate(576, Purpose::kActivations); }
  EXPECT_EQ(arena_->acquisitions(), 3);
  arena_->ServeSmaller();
  const Arena::Block first = arena_->Allocate(512, Purpose::kActivations);   // the one of 576
  const Arena::Block second = arena_->Allocate(512, Purpose::kActivations);  // of 640
  Arena::Block third = arena_->Allocate(512, Purpose::kActivations);         // of 6400
  EXPECT_EQ(arena_->acquisitions(), 3);
  EXPECT_EQ((std::set<void*>{second.data, third.data}), free);
  EXPECT_EQ(arena_->use().current_total, 3 * 512);
  EXPECT_EQ(arena_->use().reserved, 576 + 640 + 6400);
  const Arena::Block fourth = arena_->Allocate(6400, Purpose::kActivations);
  EXPECT_EQ(arena_->acquisitions(), 4);
  // What comes back is of its own size again.
  void* const of_6400 = third.data;
  third = {};
  EXPECT_EQ(arena_->Allocate(6400, Purpose::kActivations).data, of_6400);
  EXPECT_EQ(arena_->acquisitions(), 4);
}

// A device of 1 MiB: what is free serves another size when nothing else is left, but for what is reserved.
TEST(Arena, GivesFreeBlocksBackBeforeItFails) {
  int64_t left = 1 << 20;
  std::vector<int64_t> released;
  const auto arena = Arena::Create(
      [&](int64_t bytes) -> std::optional<void*> {
        if (bytes > left) return std::nullopt;
        left -= bytes;
        return nullptr;
      },
      [&](void*, int64_t bytes) {
        left += bytes;
        released.push_back(bytes);
      });
  { const Arena::Block small = arena->Allocate(200 << 10, Purpose::kActivations); }
  { const Arena::Block other = arena->Allocate(300 << 10, Purpose::kWorkspace); }
  EXPECT_EQ(arena->use().reserved, 500 << 10);
  const Arena::Block kept = arena->Allocate(400 << 10, Purpose::kWeights);
  EXPECT_TRUE(released.empty());
  std::unique_ptr<Arena::PrivatePool> pool = arena->NewPrivatePool();
  { const Arena::Block reserved = arena->Allocate(100 << 10, Purpose::kActivations); }
  pool->Close();
  {
    const Arena::Block large = arena->Allocate(500 << 10, Purpose::kActivations);
    EXPECT_EQ(released, (std::vector<int64_t>{200 << 10, 300 << 10}));
    EXPECT_EQ(left, 24 << 10);
  }
  EXPECT_EQ(arena->use().reserved, 1000 << 10) << "the high-water mark";
  EXPECT_EQ(arena->use().current_total, 400 << 10);
  EXPECT_DEATH(arena->Allocate(700 << 10, Purpose::kCommunication),
               "out of memory: 716800 bytes more are wanted; in use, these included: 400 KiB of weights, .*"
               "700 KiB of communication");
}

TEST_F(ArenaTest, CountsByPurposeWithPeaks) {
  const auto weights = static_cast<size_t>(Purpose::kWeights), work = static_cast<size_t>(Purpose::kWorkspace);
  const Arena::Block held = arena_->Allocate(1000, Purpose::kWeights);
  {
    const Arena::Block block = arena_->Allocate(64, Purpose::kWorkspace), copy = block;
    EXPECT_EQ(arena_->use().current[work], 64);
  }
  { const Arena::Block block = arena_->Allocate(128, Purpose::kWorkspace); }
  MemoryUse use = arena_->use();
  EXPECT_EQ(use.current[weights], 1024);
  EXPECT_EQ(use.current[work], 0);
  EXPECT_EQ(use.peak[work], 128);
  EXPECT_EQ(use.current_total, 1024);
  EXPECT_EQ(use.peak_total, 1024 + 128);
  arena_->ResetPeak();
  use = arena_->use();
  EXPECT_EQ(use.peak[work], 0);
  EXPECT_EQ(use.peak_total, 1024);
}

TEST_F(ArenaTest, BlocksOutliveTheArenaAndThenAllIsGivenBack) {
  Arena::Block block = arena_->Allocate(64, Purpose::kWeights);
  { const Arena::Block other = arena_->Allocate(640, Purpose::kWeights); }
  arena_.reset();
  EXPECT_EQ(taken_.size(), 2u);
  block = {};
  EXPECT_TRUE(taken_.empty());
}

TEST_F(ArenaTest, DedicatedBlocksServeNothingElse) {
  { const Arena::Block block = arena_->Allocate(128, Purpose::kCommunication); }
  {
    const Arena::Block dedicated = arena_->AllocateDedicated(100, Purpose::kCommunication), copy = dedicated;
    EXPECT_EQ(arena_->acquisitions(), 2);
    EXPECT_EQ(arena_->use().reserved, 256);
    EXPECT_EQ(arena_->use().current_total, 128);
    EXPECT_EQ(taken_.size(), 2u);
  }
  EXPECT_EQ(taken_.size(), 1u);
  EXPECT_EQ(arena_->use().reserved, 256) << "the most so far";
  EXPECT_EQ(arena_->use().current_total, 0);
  EXPECT_EQ(arena_->use().peak[static_cast<size_t>(Purpose::kCommunication)], 128);
  arena_->ResetPeak();
  EXPECT_EQ(arena_->use().reserved, 128);
}

TEST_F(ArenaTest, EmptyBlocks) {
  const Arena::Block block = arena_->Allocate(0, Purpose::kGradients);
  EXPECT_NE(block.owner, nullptr);
  EXPECT_EQ(arena_->use().current_total, 0);
}

TEST_F(ArenaTest, ManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 1000; ++i) {
        const Arena::Block block = arena_->Allocate(64 * (1 + i % 3), Purpose::kActivations);
        *static_cast<int*>(block.data) = t;
        std::this_thread::yield();
        EXPECT_EQ(*static_cast<int*>(block.data), t);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(arena_->use().current_total, 0);
  EXPECT_LE(arena_->acquisitions(), 12);
}

TEST(Arena, BlocksStayWithTheirQueue) {
  int queue = 0, acquired = 0;
  const auto arena = Arena::Create([&](int64_t) { return ++acquired, nullptr; }, [](void*, int64_t) {},
                                   [&] { return queue; });
  arena->Allocate(64, Purpose::kWeights);  // and given back at once
  queue = 1;
  arena->Allocate(64, Purpose::kWeights);
  EXPECT_EQ(acquired, 2);
  auto kept = arena->Allocate(64, Purpose::kWeights);
  queue = 0;
  kept = {};  // goes back to queue 1, where it came from
  arena->Allocate(64, Purpose::kWeights);
  arena->Allocate(64, Purpose::kWeights);
  queue = 1;
  arena->Allocate(64, Purpose::kWeights);
  EXPECT_EQ(acquired, 2);
}

TEST_F(ArenaTest, ReservedBlocksAreNobodyElses) {
  std::set<void*> before;
  {
    const Arena::Block a = arena_->Allocate(64, Purpose::kActivations), b = arena_->Allocate(64, Purpose::kActivations);
    before = {a.data, b.data};
  }
  auto pool = arena_->NewPrivatePool();
  std::set<void*> reserved;
  {
    // What was free is taken first, and what comes free is taken again.
    const Arena::Block a = arena_->Allocate(64, Purpose::kActivations);
    for (int i = 0; i < 3; ++i) reserved.insert(arena_->Allocate(64, Purpose::kWorkspace).data);
    reserved.insert(a.data);
  }
  EXPECT_EQ(reserved, before);
  EXPECT_EQ(arena_->acquisitions(), 2);
  void* more = arena_->Allocate(128, Purpose::kActivations).data;
  EXPECT_EQ(arena_->acquisitions(), 3);
  pool->Close();

  const Arena::Block other = arena_->Allocate(64, Purpose::kWeights), large = arena_->Allocate(128, Purpose::kWeights);
  EXPECT_FALSE(before.contains(other.data));
  EXPECT_NE(large.data, more);
  EXPECT_EQ(arena_->acquisitions(), 5);
  EXPECT_EQ(arena_->use().current_total, 192);

  pool = nullptr;
  const Arena::Block again = arena_->Allocate(64, Purpose::kWeights), last = arena_->Allocate(64, Purpose::kWeights);
  EXPECT_EQ((std::set<void*>{again.data, last.data}), before);
  EXPECT_EQ(arena_->Allocate(128, Purpose::kWeights).data, more);
  EXPECT_EQ(arena_->acquisitions(), 5);
}

TEST_F(ArenaTest, ABlockMayOutliveItsPrivatePool) {
  auto pool = arena_->NewPrivatePool();
  Arena::Block kept = arena_->Allocate(64, Purpose::kActivations), longer = arena_->Allocate(64, Purpose::kActivations);
  void *first = kept.data, *second = longer.data;
  pool->Close();
  kept = {};  // goes to the pool
  EXPECT_NE(arena_->Allocate(64, Purpose::kActivations).data, first);
  pool = nullptr;
  longer = {};  // goes to all
  const Arena::Block a = arena_->Allocate(64, Purpose::kWeights), b = arena_->Allocate(64, Purpose::kWeights);
  const Arena::Block c = arena_->Allocate(64, Purpose::kWeights);
  EXPECT_EQ(arena_->acquisitions(), 3);
  EXPECT_TRUE((std::set<void*>{a.data, b.data, c.data}.contains(first)));
  EXPECT_TRUE((std::set<void*>{a.data, b.data, c.data}.contains(second)));
}

TEST(Arena, APrivatePoolIsOfOneQueue) {
  int queue = 0, acquired = 0;
  const auto arena = Arena::Create([&](int64_t) { return ++acquired, nullptr; }, [](void*, int64_t) {},
                                   [&] { return queue; });
  arena->Allocate(64, Purpose::kWeights);
  queue = 1;
  const auto pool = arena->NewPrivatePool();
  queue = 0;
  arena->Allocate(64, Purpose::kWeights);  // its own free block
  EXPECT_EQ(acquired, 1);
  queue = 1;
  arena->Allocate(64, Purpose::kWeights);
  EXPECT_EQ(acquired, 2);
  queue = 0;
  const auto a = arena->Allocate(64, Purpose::kWeights), b = arena->Allocate(64, Purpose::kWeights);
  EXPECT_EQ(acquired, 3);
}

TEST_F(ArenaTest, APrivatePoolKeepsTheArena) {
  auto pool = arena_->NewPrivatePool();
  { const Arena::Block block = arena_->Allocate(64, Purpose::kWeights); }
  arena_.reset();
  EXPECT_EQ(taken_.size(), 1u);
  pool = nullptr;
  EXPECT_TRUE(taken_.empty());
}

}  // namespace
}  // namespace trefoil
