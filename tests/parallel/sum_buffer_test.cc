#include "parallel/collectives/sum_buffer.h"

#include <gtest/gtest.h>

#include <memory>

#include "runtime/ops.h"

namespace trefoil {
namespace {

constexpr int64_t kKiB = 1024, kMiB = 1024 * kKiB;

// A CPU device and what is taken of it for messages.
class SumBufferTest : public testing::Test {
 protected:
  int64_t current() const { return device_->memory().current[static_cast<size_t>(Purpose::kCommunication)]; }
  int64_t peak() const { return device_->memory().peak[static_cast<size_t>(Purpose::kCommunication)]; }
  int64_t reserved() const { return device_->memory().reserved; }

  const std::unique_ptr<Device> device_ = NewCpuDevice(/*threads=*/1);
};

TEST(SumSegments, AreAsTheHeaderSays) {
  EXPECT_EQ(SegmentsOfMessages(2).part_bytes, kMiB);
  EXPECT_EQ(SegmentsOfMessages(16).part_bytes, kMiB);
  EXPECT_EQ(SegmentsOfMessages(512).part_bytes, 32 * kKiB);
  EXPECT_EQ(SegmentsOfMessages(1 << 20).part_bytes, 4 * kKiB);
  EXPECT_EQ(SegmentsOfMessages(2).small_bytes, 4 * kKiB);
  EXPECT_EQ(SegmentsOfNccl(2).part_bytes, 32 * kMiB);
  EXPECT_EQ(SegmentsOfNccl(64).part_bytes, kMiB);
  EXPECT_EQ(SegmentsOfNccl(2).small_bytes, 0);
  EXPECT_EQ(SegmentsOfMessages(2).PartElements(DType::kFloat32), kMiB / 4);
  EXPECT_EQ(SegmentsOfMessages(2).PartElements(DType::kBFloat16), kMiB / 2);
  // Whole elements, whatever the ranks.
  for (int ranks = 1; ranks < 3000; ++ranks) {
    for (const SumSegments& segments : {SegmentsOfMessages(ranks), SegmentsOfNccl(ranks)}) {
      EXPECT_GT(segments.part_bytes, 0) << ranks;
      EXPECT_EQ(segments.part_bytes % 64, 0) << ranks;
    }
  }
}

TEST_F(SumBufferTest, TakesNothingBeforeItIsUsedAndGivesAllBack) {
  const int64_t before = current();
  {
    SumBuffer buffer(*device_, SegmentsOfMessages(4));
    EXPECT_EQ(current(), before);
    buffer.Parts(DType::kFloat32, 4, 100, 100);
    EXPECT_GE(current() - before, 4 * 100 * 4);
  }
  EXPECT_EQ(current(), before);
}

TEST_F(SumBufferTest, PartsLieSideBySide) {
  SumBuffer buffer(*device_, SegmentsOfMessages(3));
  const Tensor parts = buffer.Parts(DType::kFloat32, 3, 5, 7);
  EXPECT_EQ(parts.shape(), (Shape{3, 5})) << "this rank's count, though another has 7";
  EXPECT_EQ(static_cast<float*>(parts.Rows(1, 2).raw()), parts.data<float>() + 5);
  for (int i = 0; i < 15; ++i) parts.data<float>()[i] = static_cast<float>(i);
  const Tensor sum = device_->Allocate(DType::kFloat32, {5}, Purpose::kGradients);
  SumParts(*device_, parts, sum);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(sum.data<float>()[i], static_cast<float>(15 + 3 * i));
}

// It grows to the largest so far and no further, whatever the count of this rank.
TEST_F(SumBufferTest, ItsSizeIsThatOfTheLargestSoFar) {
  SumBuffer buffer(*device_, SegmentsOfMessages(2));
  const void* first = buffer.Parts(DType::kFloat32, 2, 1000, 1000).raw();
  const int64_t size = current();
  EXPECT_EQ(buffer.Parts(DType::kFloat32, 2, 10, 10).raw(), first);
  EXPECT_EQ(buffer.Parts(DType::kBFloat16, 2, 2000, 2000).raw(), first) << "as many bytes";
  EXPECT_EQ(current(), size);
  buffer.Parts(DType::kFloat32, 2, 1, 5000);
  EXPECT_GE(current(), 2 * 5000 * 4) << "that of the rank with the most";
  EXPECT_EQ(peak(), current()) << "the old one was given up first";
  const int64_t grown = current();
  buffer.Parts(DType::kFloat32, 2, 5000, 5000);
  EXPECT_EQ(current(), grown);
}

// What is replaced goes back to the system, or stays in the arena for others.
TEST_F(SumBufferTest, WhatIsReplacedGoesBackWhereItMay) {
  for (const bool gives_back : {true, false}) {
    const auto device = NewCpuDevice(/*threads=*/1);
    SumBuffer buffer(*device, {.part_bytes = kMiB, .small_bytes = 0, .gives_back = gives_back});
    buffer.Parts(DType::kFloat32, 2, 1 << 17, 1 << 17);
    buffer.Parts(DType::kFloat32, 2, 1 << 18, 1 << 18);
    EXPECT_EQ(device->memory().reserved, gives_back ? 2 * kMiB : 3 * kMiB);
  }
}

// A recording goes on writing to the buffer that it knew.
TEST_F(SumBufferTest, APinnedBufferIsKeptWhenItIsReplaced) {
  SumBuffer buffer(*device_, SegmentsOfMessages(2));
  const Tensor pinned = buffer.Parts(DType::kFloat32, 2, 100, 100);
  const int64_t size = current();
  buffer.Pin();
  EXPECT_NE(buffer.Parts(DType::kFloat32, 2, 1000, 1000).raw(), pinned.raw());
  EXPECT_GE(current(), size + 2 * 1000 * 4) << "both";
  const int64_t both = current();
  buffer.Parts(DType::kFloat32, 2, 10000, 10000);
  EXPECT_LT(current(), both + 2 * 10000 * 4) << "the second is not pinned, and given up";
}

}  // namespace
}  // namespace trefoil
