#include "data/tasks/length_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

namespace trefoil {
namespace {

std::vector<int64_t> RandomLengths(int64_t size) {
  std::minstd_rand random(3);
  std::vector<int64_t> lengths(size);
  for (int64_t& length : lengths) length = 1 + static_cast<int64_t>(random() % 200);
  return lengths;
}

TEST(LengthOrder, UsesEverySampleOnceInEachEpoch) {
  for (const int64_t size : {1, 2, 7, 16, 17, 64, 999, 1000, 1024}) {
    for (const int64_t batch : {1, 3, 8, 2000}) {
      const auto lengths = RandomLengths(size);
      const LengthOrder order(
          size, [&](int64_t i) { return lengths[i]; }, batch, 5);
      for (int64_t epoch = 0; epoch < 4; ++epoch) {
        std::vector<int> used(size);
        for (int64_t p = 0; p < size; ++p) ++used[order.Index(epoch * size + p)];
        for (const int count : used) ASSERT_EQ(count, 1) << size << " by " << batch << ", epoch " << epoch;
      }
    }
  }
}

// How much of what is computed is padding, were each batch padded to its longest.
double PaddingShare(const LengthOrder& order, const std::vector<int64_t>& lengths, int64_t batch, int64_t batches) {
  int64_t real = 0, padded = 0;
  for (int64_t b = 0; b < batches; ++b) {
    int64_t longest = 0;
    for (int64_t k = b * batch; k < (b + 1) * batch; ++k) {
      longest = std::max(longest, lengths[order.Index(k)]);
      real += lengths[order.Index(k)];
    }
    padded += longest * batch;
  }
  return 1 - static_cast<double>(real) / static_cast<double>(padded);
}

TEST(LengthOrder, BatchesHaveSimilarLengthsInRandomOrder) {
  constexpr int64_t kSize = 10007, kBatch = 16;  // epochs end within batches
  const auto lengths = RandomLengths(kSize);
  const LengthOrder order(
      kSize, [&](int64_t i) { return lengths[i]; }, kBatch, 5);
  EXPECT_LT(PaddingShare(order, lengths, kBatch, 3 * kSize / kBatch), 0.02);
  const LengthOrder unsorted(
      kSize, [](int64_t) { return 0; }, kBatch, 5);
  EXPECT_GT(PaddingShare(unsorted, lengths, kBatch, 3 * kSize / kBatch), 0.4);
  // Batches do not grow: half of the time the next is shorter.
  int shorter = 0;
  for (int64_t b = 0; b + 1 < 600; ++b)
    shorter += lengths[order.Index((b + 1) * kBatch)] < lengths[order.Index(b * kBatch)];
  EXPECT_NEAR(shorter, 300, 60);
  // Another seed and another epoch make other batches.
  const LengthOrder other(
      kSize, [&](int64_t i) { return lengths[i]; }, kBatch, 6);
  int same_seed = 0, same_epoch = 0;
  for (int64_t k = 0; k < kSize; ++k) {
    same_seed += order.Index(k) == other.Index(k);
    same_epoch += order.Index(k) == order.Index(kSize + k);
  }
  EXPECT_LT(same_seed, 20);
  EXPECT_LT(same_epoch, 20);
}

TEST(LengthOrder, IsAPureFunctionWhateverWasAskedBefore) {
  constexpr int64_t kSize = 5000;
  const auto lengths = RandomLengths(kSize);
  const auto length = [&](int64_t i) { return lengths[i]; };
  const LengthOrder order(kSize, length, 8, 5);
  std::vector<int64_t> forwards(2 * kSize);
  for (int64_t k = 0; k < 2 * kSize; ++k) forwards[k] = order.Index(k);
  const LengthOrder again(kSize, length, 8, 5);
  std::vector<std::thread> threads;
  for (int64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int64_t k = 2 * kSize - 1 - thread; k >= 0; k -= 7) EXPECT_EQ(again.Index(k), forwards[k]);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// What a resumed run depends on.
TEST(LengthOrder, TheOrderIsFrozen) {
  const LengthOrder order(
      20, [](int64_t i) { return i % 7; }, 4, 42);
  std::vector<int64_t> found;
  for (int64_t k = 40; k < 64; ++k) found.push_back(order.Index(k));
  EXPECT_EQ(found, (std::vector<int64_t>{0, 14, 7, 8,  12, 19, 6, 13, 15, 1, 16, 9,
                                         2, 3,  10, 17, 4, 11, 18, 5, 2, 3, 10, 17}));
}

}  // namespace
}  // namespace trefoil
