#include "parallel/mesh.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace trefoil {
namespace {

constexpr Axis kAxes[] = {Axis::kTensor, Axis::kData, Axis::kPipeline};

TEST(Mesh, NeighboursAlongTensorAreNeighbouringRanks) {
  Mesh mesh({.tensor = 2, .data = 2, .pipeline = 2}, 5);
  EXPECT_EQ(mesh.index(Axis::kTensor), 1);
  EXPECT_EQ(mesh.index(Axis::kData), 0);
  EXPECT_EQ(mesh.index(Axis::kPipeline), 1);
  EXPECT_EQ(mesh.Group({Axis::kTensor}), (std::vector<int>{4, 5}));
  EXPECT_EQ(mesh.Group({Axis::kTensor, Axis::kData}), (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(mesh.Group({Axis::kPipeline, Axis::kTensor}), (std::vector<int>{0, 1, 4, 5}));
  EXPECT_EQ(mesh.Group({}), (std::vector<int>{5}));
  EXPECT_EQ(mesh.RankAt(Axis::kData, 1), 7);
}

// Every group of every shape, against the definition: the ranks that agree on all axes not named.
TEST(Mesh, GroupsMatchTheirDefinition) {
  for (int tensor : {1, 2, 3, 4}) {
    for (int data : {1, 2, 3}) {
      for (int pipeline : {1, 2, 4}) {
        const MeshSizes sizes{tensor, data, pipeline};
        // Coordinates of each rank by the documented order, counted rather than computed.
        std::vector<std::array<int, 3>> at;
        for (int p = 0; p < pipeline; ++p) {
          for (int d = 0; d < data; ++d) {
            for (int t = 0; t < tensor; ++t) at.push_back({t, d, p});
          }
        }
        for (int rank = 0; rank < sizes.ranks(); ++rank) {
          const Mesh mesh(sizes, rank);
          for (int mask = 0; mask < 8; ++mask) {
            std::vector<int> expected;
            for (int other = 0; other < sizes.ranks(); ++other) {
              bool agrees = true;
              for (int a = 0; a < 3; ++a) agrees &= (mask >> a & 1) != 0 || at[other][a] == at[rank][a];
              if (agrees) expected.push_back(other);
            }
            std::vector<int> found;
            switch (mask) {
              case 0: found = mesh.Group({}); break;
              case 1: found = mesh.Group({Axis::kTensor}); break;
              case 2: found = mesh.Group({Axis::kData}); break;
              case 3: found = mesh.Group({Axis::kData, Axis::kTensor}); break;
              case 4: found = mesh.Group({Axis::kPipeline}); break;
              case 5: found = mesh.Group({Axis::kTensor, Axis::kPipeline}); break;
              case 6: found = mesh.Group({Axis::kData, Axis::kPipeline}); break;
              case 7: found = mesh.Group({Axis::kTensor, Axis::kData, Axis::kPipeline}); break;
            }
            EXPECT_EQ(found, expected) << "rank " << rank << " axes " << mask;
          }
          for (int a = 0; a < 3; ++a) {
            EXPECT_EQ(mesh.index(kAxes[a]), at[rank][a]);
            for (int i = 0; i < mesh.size(kAxes[a]); ++i) {
              auto wanted = at[rank];
              wanted[a] = i;
              EXPECT_EQ(at[mesh.RankAt(kAxes[a], i)], wanted);
            }
          }
        }
      }
    }
  }
}

TEST(MeshDeathTest, RankOutsideTheMesh) {
  EXPECT_DEATH(Mesh({.tensor = 2, .data = 1, .pipeline = 2}, 4), "rank 4 of a mesh of 4");
}

}  // namespace
}  // namespace trefoil
