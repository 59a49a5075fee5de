#include "runtime/op_journal.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
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
  Activate(*device, Activation::kGelu, x, x);
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

// What was written before a name was noted is there for who reads it: the thread sanitizer watches the characters, and
// sees an order that this machine keeps anyway.
TEST(OpJournal, NamesAreWholeWhenTheyAreSeen) {
  constexpr int kNoted = 2000;
  static char names[kNoted][8];
  std::atomic<bool> done = false;
  std::thread noting([&] {
    for (int i = 0; i < kNoted; ++i) {
      std::snprintf(names[i], sizeof(names[i]), "op%04d", i);
      NoteOp(names[i]);
    }
    done = true;
  });
  do {
    EXPECT_EQ(LastOps().find('\0'), std::string::npos);
  } while (!done);
  noting.join();
  EXPECT_NE(LastOps().find("op1999"), std::string::npos);
}

}  // namespace
}  // namespace trefoil
