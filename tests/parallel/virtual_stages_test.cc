#include "parallel/pipeline/virtual_stages.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

namespace trefoil {
namespace {

std::vector<int> Of(const VirtualStages& virtual_stages, int stage) {
  std::vector<int> all;
  for (int chunk = 0; chunk < virtual_stages.chunks(); ++chunk) all.push_back(virtual_stages.Of(stage, chunk));
  return all;
}

TEST(VirtualStages, ByHand) {
  const VirtualStages loop(ParallelConfig::INTERLEAVED, 4, 3);
  EXPECT_EQ(Of(loop, 0), (std::vector<int>{0, 4, 8}));
  EXPECT_EQ(Of(loop, 3), (std::vector<int>{3, 7, 11}));
  const VirtualStages fold(VirtualStages::Order::kFold, 4, 3);
  EXPECT_EQ(Of(fold, 0), (std::vector<int>{0, 7, 8}));
  EXPECT_EQ(Of(fold, 3), (std::vector<int>{3, 4, 11}));
  EXPECT_EQ(VirtualStages(ParallelConfig::ONE_F_ONE_B, 4, 1).Of(2, 0), 2);
  EXPECT_EQ(VirtualStages().size(), 1);
}

TEST(VirtualStages, ThereAndBack) {
  for (const auto order : {VirtualStages::Order::kLoop, VirtualStages::Order::kFold}) {
    for (int stages = 1; stages <= 5; ++stages) {
      for (int chunks = 1; chunks <= 4; ++chunks) {
        const VirtualStages virtual_stages(order, stages, chunks);
        EXPECT_EQ(virtual_stages.last(), stages * chunks - 1);
        for (int v = 0; v < virtual_stages.size(); ++v) {
          EXPECT_EQ(virtual_stages.Of(virtual_stages.StageOf(v), virtual_stages.ChunkOf(v)), v);
          if (v == 0) continue;
          const int from = virtual_stages.StageOf(v - 1), to = virtual_stages.StageOf(v);
          if (order == VirtualStages::Order::kLoop) {
            EXPECT_EQ(to, (from + 1) % stages);
          } else {
            EXPECT_LE(std::abs(from - to), 1) << "a fold's neighbours are on neighbouring stages, or on one";
          }
        }
      }
    }
  }
}

TEST(VirtualStagesDeathTest, OnlyInterleavedHasChunks) {
  EXPECT_DEATH(VirtualStages(ParallelConfig::GPIPE, 2, 2), "GPIPE with 2 chunks per stage");
  EXPECT_DEATH(VirtualStages(ParallelConfig::INTERLEAVED, 2, 1), "INTERLEAVED with 1 chunks per stage");
}

}  // namespace
}  // namespace trefoil
