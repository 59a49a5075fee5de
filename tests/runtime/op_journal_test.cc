#include "runtime/op_journal.h"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/device.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

TEST(OpJournal, HasTheLastOpsOfEveryThread) {
  EXPECT_EQ(LastOps(), "");
  const std::unique_ptr<Device> device = NewNullDevice();
  const Tensor x = device->Allocate(DType::kFloat32, {2, 4}, Purpose::kActivations);
  Fill(*device, x, 1);
  Gelu(*device, x, x);
  EXPECT_EQ(LastOps(), "by this thread fill, gelu");
  std::thread([&] {
    EXPECT_EQ(LastOps(), "by another fill, gelu");
    Add(*device, x, x, x);
    EXPECT_EQ(LastOps(), "by this thread add; by another fill, gelu");
  }).join();
  for (int i = 0; i < 7; ++i) NoteOp("matmul");
  EXPECT_EQ(LastOps(), "by this thread gelu, matmul, matmul, matmul, matmul, matmul, matmul, matmul; by another add");
}

TEST(OpJournal, ManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 100; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 1000; ++i) NoteOp("matmul");
    });
  }
  for (int i = 0; i < 20; ++i) EXPECT_LT(LastOps().size(), 33u * 9 * 12);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace trefoil
