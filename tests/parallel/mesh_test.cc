#include "parallel/mesh.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

namespace trefoil {
namespace {

constexpr Axis kAxesOfAt[] = {Axis::kTensor, Axis::kContext, Axis::kData, Axis::kPipeline};

TEST(Mesh, NeighboursAlongTensorAreNeighbouringRanks) {
  Mesh mesh({{Axis::kTensor, 2}, {Axis::kData, 2}, {Axis::kPipeline, 2}}, 5);
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
        const int context = tensor == 3 ? 1 : 3 - pipeline / 2;
        const MeshSizes sizes = {{Axis::kTensor, tensor}, {Axis::kContext, context}, {Axis::kData, data},
                                 {Axis::kPipeline, pipeline}};
        // Coordinates of each rank by the documented order, counted rather than computed.
        std::vector<std::array<int, 4>> at;
        for (int p = 0; p < pipeline; ++p) {
          for (int d = 0; d < data; ++d) {
            for (int c = 0; c < context; ++c) {
              for (int t = 0; t < tensor; ++t) at.push_back({t, c, d, p});
            }
          }
        }
        for (int rank = 0; rank < sizes.ranks(); ++rank) {
          const Mesh mesh(sizes, rank);
          for (int mask = 0; mask < 16; ++mask) {
            std::vector<int> expected;
            for (int other = 0; other < sizes.ranks(); ++other) {
              bool agrees = true;
              for (int a = 0; a < 4; ++a) agrees &= (mask >> a & 1) != 0 || at[other][a] == at[rank][a];
              if (agrees) expected.push_back(other);
            }
            AxisSet axes;
            for (int a = 0; a < 4; ++a) axes = (mask >> a & 1) != 0 ? axes | kAxesOfAt[a] : axes;
            const std::vector<int> found = mesh.Group(axes);
            EXPECT_EQ(found, expected) << "rank " << rank << " axes " << mask;
            EXPECT_EQ(mesh.size(axes), static_cast<int>(expected.size()));
            EXPECT_EQ(expected[static_cast<size_t>(mesh.index(axes))], rank);
          }
          for (int a = 0; a < 4; ++a) {
            EXPECT_EQ(mesh.index(kAxesOfAt[a]), at[rank][a]);
            for (int i = 0; i < mesh.size(kAxesOfAt[a]); ++i) {
              auto wanted = at[rank];
              wanted[a] = i;
              EXPECT_EQ(at[mesh.RankAt(kAxesOfAt[a], i)], wanted);
            }
          }
        }
      }
    }
  }
}

// What texts, rules and meshes derive from the table.
TEST(Axes, EachHasItsFieldAndItsPlace) {
  ParallelConfig config;
  std::set<int> orders;
  int size = 2;
  for (const AxisEntry& axis : Axes()) {
    EXPECT_EQ(&EntryOf(axis.axis), &axis);
    (config.*axis.set_size)(size);
    EXPECT_EQ((config.*axis.size)(), size);
    const auto* field = ParallelConfig::descriptor()->FindFieldByName(axis.name);
    ASSERT_NE(field, nullptr) << axis.name;
    EXPECT_EQ(ParallelConfig::GetReflection()->GetInt32(config, field), size) << axis.name << " is another field";
    EXPECT_TRUE(orders.insert(axis.order).second);
    EXPECT_EQ(MeshSizes(config)[axis.axis], size++);
  }
  EXPECT_EQ(orders, (std::set<int>{0, 1, 2, 3}));
  EXPECT_EQ(MeshText(config), "tensor 2 x context 3 x pipeline 4 x data 5");
  EXPECT_EQ(RanksOfMesh(config), 120);
  config.set_context(1);
  EXPECT_EQ(MeshText(config), "tensor 2 x pipeline 4 x data 5") << "most runs have no use for it";
  for (const AxisEntry& axis : Axes()) (config.*axis.set_size)(1 << 30);
  EXPECT_EQ(RanksOfMesh(config), int64_t{1} << 62);
}

TEST(MeshDeathTest, RankOutsideTheMesh) {
  EXPECT_DEATH(Mesh({{Axis::kTensor, 2}, {Axis::kPipeline, 2}}, 4), "rank 4 of a mesh of 4");
}

}  // namespace
}  // namespace trefoil
