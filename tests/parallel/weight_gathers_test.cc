// The list of gathers, proved for the uses of every schedule: what a use needs is there, nothing in use is overwritten.
#include "parallel/weight_gathers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "parallel/pipeline/schedule_search.h"

namespace trefoil {
namespace {

Bucket Of(int module, int64_t elements, std::vector<int> tied = {}) {
  return {.module = module, .tied_modules = std::move(tied), .entries = {}, .elements = elements};
}

// An embedding, `blocks` blocks, a head.
std::vector<Bucket> Model(int blocks, bool tied) {
  std::vector<Bucket> buckets = {Of(0, 500, tied ? std::vector<int>{blocks + 1} : std::vector<int>{})};
  if (tied) buckets.push_back(Of(0, 32));
  for (int block = 1; block <= blocks; ++block) buckets.push_back(Of(block, 100));
  buckets.push_back(Of(blocks + 1, tied ? 8 : 600));
  return buckets;
}

std::vector<bool> All(const std::vector<Bucket>& buckets) { return std::vector<bool>(buckets.size(), true); }

// The modules that a stage's list uses, if its chunks have these.
std::vector<int> Uses(const std::vector<Action>& actions, const std::vector<std::vector<int>>& chunks) {
  std::vector<int> uses;
  for (const Action& action : actions) {
    std::vector<int> modules = chunks[static_cast<size_t>(action.chunk)];
    if (action.kind == ActionKind::kBackward) std::reverse(modules.begin(), modules.end());
    const bool computes = action.kind == ActionKind::kForward || action.kind == ActionKind::kBackward;
    if (computes) uses.insert(uses.end(), modules.begin(), modules.end());
  }
  return uses;
}

// Performs a list as parallel/weight_gatherer.h does, and finds each use's buckets in their slots. Returns how often each
// bucket was gathered.
std::map<size_t, int> Perform(const std::vector<int>& uses, const std::vector<Bucket>& buckets,
                              const BucketSlots& slots) {
  const std::vector<Gather> gathers = ListGathers(uses, buckets, slots);
  std::map<std::pair<int, int>, size_t> held;  // by kind and slot
  std::map<size_t, int> counts;
  size_t next = 0;
  for (int use = 0; use < static_cast<int>(uses.size()); ++use) {
    const auto needs = [&](size_t bucket) {
      return slots.kind_of[bucket] >= 0 && buckets[bucket].UsedBy(uses[static_cast<size_t>(use)]);
    };
    for (; next < gathers.size() && gathers[next].start == use; ++next) {
      const Gather& gather = gathers[next];
      EXPECT_GE(gather.use, use);
      EXPECT_LE(gather.use, use + kPrefetch);
      const int kind = slots.kind_of[gather.bucket];
      EXPECT_LT(gather.slot, slots.kinds[static_cast<size_t>(kind)].count);
      EXPECT_LE(buckets[gather.bucket].elements, slots.kinds[static_cast<size_t>(kind)].elements);
      const auto before = held.find({kind, gather.slot});
      EXPECT_TRUE(before == held.end() || !needs(before->second)) << "use " << use << " loses its weights";
      for (const auto& [place, bucket] : held) EXPECT_NE(bucket, gather.bucket) << "it is there";
      held[{kind, gather.slot}] = gather.bucket;
      ++counts[gather.bucket];
    }
    for (size_t bucket = 0; bucket < buckets.size(); ++bucket) {
      if (!needs(bucket)) continue;
      EXPECT_TRUE(std::any_of(held.begin(), held.end(), [&](const auto& slot) { return slot.second == bucket; }))
          << "use " << use << " of module " << uses[static_cast<size_t>(use)] << " lacks bucket " << bucket;
    }
  }
  EXPECT_EQ(next, gathers.size()) << "all are started, in order";
  return counts;
}

TEST(WeightGathers, OfThreeBlocksInTwoSlots) {
  const std::vector<Bucket> buckets = {Of(1, 100), Of(2, 100), Of(3, 100)};
  const BucketSlots slots = SlotsFor(buckets, All(buckets));
  ASSERT_EQ(slots.kinds.size(), 1u);
  EXPECT_EQ(slots.kinds[0].count, 2);
  const std::vector<Gather> expected = {{.bucket = 0, .slot = 0, .use = 0, .start = 0},
                                        {.bucket = 1, .slot = 1, .use = 1, .start = 0},
                                        {.bucket = 2, .slot = 0, .use = 2, .start = 1},
                                        {.bucket = 0, .slot = 0, .use = 5, .start = 4}};
  EXPECT_EQ(ListGathers({1, 2, 3, 3, 2, 1}, buckets, slots), expected);
}

// Forward and backward of each micro-batch gather all but the two blocks that are still there, and those ahead.
TEST(WeightGathers, GathersAllButWhatIsThere) {
  constexpr int kBlocks = 8, kMicroBatches = 5;
  const std::vector<Bucket> buckets = Model(kBlocks, /*tied=*/false);
  const BucketSlots slots = SlotsFor(buckets, All(buckets));
  std::vector<int> modules;
  for (int i = 0; i <= kBlocks + 1; ++i) modules.push_back(i);
  const auto actions = BuildSchedule(ParallelConfig::ONE_F_ONE_B, 1, 1, kMicroBatches, 0);
  const auto counts = Perform(Uses(actions, {modules}), buckets, slots);
  int blocks = 0;
  for (size_t bucket = 1; bucket <= kBlocks; ++bucket) blocks += counts.at(bucket);
  // 2 passes of 8 blocks each, of which 2 need no gather, but for the first.
  EXPECT_EQ(blocks, 2 * kMicroBatches * (kBlocks - 2) + 2);
  // Embedding and head share a slot: each for each micro-batch's forward, the embedding for the backward too, which is
  // that of the next forward.
  EXPECT_EQ(slots.kind_of[0], slots.kind_of.back());
  EXPECT_EQ(counts.at(0), kMicroBatches + 1);
  EXPECT_EQ(counts.at(buckets.size() - 1), kMicroBatches);
}

// Every stage's list, of one that is searched for with stages of one length.
std::vector<std::vector<Action>> ListsOf(const ScheduleEntry& schedule, int stages, int chunks, int micro_batches) {
  const VirtualStages virtual_stages(schedule.schedule, stages, chunks);
  if (schedule.searched()) {
    return SearchSchedule({.virtual_stages = virtual_stages,
                           .micro_batches = micro_batches,
                           .times = std::vector<ChunkTimes>(static_cast<size_t>(virtual_stages.size())),
                           .message = 0,
                           .in_flight = stages * chunks});
  }
  std::vector<std::vector<Action>> lists;
  for (int stage = 0; stage < stages; ++stage) {
    lists.push_back(BuildSchedule(schedule.schedule, stages, chunks, micro_batches, stage));
  }
  return lists;
}

TEST(WeightGathers, WhatUsesNeedIsThereUnderEverySchedule) {
  for (const bool tied : {false, true}) {
    for (const int blocks : {1, 2, 3, 4, 7, 8}) {
      for (const int stages : {1, 2, 4}) {
        for (const int chunks : {1, 2}) {
          for (const ScheduleEntry& schedule : Schedules()) {
            if (stages < schedule.least_stages) continue;
            if (chunks < schedule.least_chunks || chunks > schedule.most_chunks) continue;
            const VirtualStages virtual_stages(schedule.schedule, stages, chunks);
            if (virtual_stages.size() > blocks) continue;
            const std::vector<std::vector<Action>> lists = ListsOf(schedule, stages, chunks, /*micro_batches=*/8);
            for (int stage = 0; stage < stages; ++stage) {
              std::vector<std::vector<int>> modules;
              for (int chunk = 0; chunk < chunks; ++chunk) {
                const int v = virtual_stages.Of(stage, chunk), n = virtual_stages.size();
                std::vector<int>& here = modules.emplace_back();
                for (int block = 1 + blocks * v / n; block < 1 + blocks * (v + 1) / n; ++block) here.push_back(block);
                if (v == 0) here.insert(here.begin(), 0);
                if (v == n - 1) here.push_back(blocks + 1);
              }
              std::vector<Bucket> buckets;
              for (const Bucket& bucket : Model(blocks, tied)) {
                const bool used = std::any_of(modules.begin(), modules.end(), [&](const std::vector<int>& numbers) {
                  return std::any_of(numbers.begin(), numbers.end(), [&](int number) { return bucket.UsedBy(number); });
                });
                if (used) buckets.push_back(bucket);
              }
              SCOPED_TRACE(testing::Message() << ParallelConfig::Schedule_Name(schedule.schedule) << " " << blocks
                                              << " blocks, stage " << stage << " of " << stages << ", " << chunks
                                              << " chunks, tied " << tied);
              Perform(Uses(lists[static_cast<size_t>(stage)], modules), buckets, SlotsFor(buckets, All(buckets)));
            }
          }
        }
      }
    }
  }
}

TEST(BucketSlots, OfEachSizeTwiceWhatAModuleHas) {
  // Two buckets a block, of one size: four slots of eight buckets; of an odd one out its own.
  std::vector<Bucket> buckets;
  for (int block = 1; block <= 4; ++block) {
    buckets.push_back(Of(block, 100));
    buckets.push_back(Of(block, 100));
  }
  buckets.push_back(Of(0, 70));
  const BucketSlots slots = SlotsFor(buckets, All(buckets));
  ASSERT_EQ(slots.kinds.size(), 2u);
  EXPECT_EQ(slots.kinds[static_cast<size_t>(slots.kind_of[0])].count, 4);
  EXPECT_EQ(slots.kinds[static_cast<size_t>(slots.kind_of[8])].count, 1);
  EXPECT_EQ(slots.kinds[static_cast<size_t>(slots.kind_of[8])].elements, 70);
  std::vector<int> uses;
  for (int pass = 0; pass < 3; ++pass) {
    for (int module = 0; module <= 4; ++module) uses.push_back(module);
  }
  Perform(uses, buckets, slots);
}

TEST(BucketSlots, SharedOnlyByModulesThatAreApart) {
  const std::vector<Bucket> buckets = {Of(0, 10), Of(1, 20), Of(2, 30), Of(4, 40, {0})};
  const BucketSlots slots = SlotsFor(buckets, {true, true, true, false});
  EXPECT_NE(slots.kind_of[0], slots.kind_of[1]);
  EXPECT_NE(slots.kind_of[1], slots.kind_of[2]);
  EXPECT_EQ(slots.kind_of[0], slots.kind_of[2]);
  EXPECT_EQ(slots.kind_of[3], -1);
  EXPECT_EQ(slots.kinds[static_cast<size_t>(slots.kind_of[0])].elements, 30);
  const BucketSlots with_tied = SlotsFor(buckets, All(buckets));
  EXPECT_NE(with_tied.kind_of[3], with_tied.kind_of[0]);
}

}  // namespace
}  // namespace trefoil
