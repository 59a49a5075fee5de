#include "parallel/placement.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/parallel/example_table.h"

namespace trefoil {
namespace {

constexpr bool kSplit = true;
const OptimizerLayout kElements;  // an optimizer of single elements

TEST(Placement, SlicesDifferByOneRowAtMostAndFollowEachOther) {
  const auto tensor_rank = [](int index) { return Mesh({{Axis::kTensor, 4}}, index); };
  const Parameter split = {.name = "w", .shape = {10, 3}, .splits = {{0, Axis::kTensor}}};
  const int64_t begins[] = {0, 2, 5, 7, 10};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(SliceOf(split, tensor_rank(i)), (Box{{begins[i], 0}, {begins[i + 1] - begins[i], 3}})) << i;
  }
  const Parameter by_columns = {.name = "w", .shape = {3, 10}, .splits = {{1, Axis::kTensor}}};
  EXPECT_EQ(SliceOf(by_columns, tensor_rank(1)), (Box{{0, 2}, {3, 3}}));
  EXPECT_EQ(SliceOf({.name = "w", .shape = {3, 10}}, tensor_rank(1)), (Box{{0, 0}, {3, 10}}));
}

TEST(Placement, AModuleIsABucketWithAlignedEntriesInOrderOfDeclaration) {
  const ParameterTable table = ExampleTable();
  const auto buckets =
      PlaceParameters(table, Mesh({{Axis::kTensor, 2}, {Axis::kData, 3}}, 1), {2, 1}, kElements, kSplit);
  ASSERT_EQ(buckets.size(), 2u);
  EXPECT_EQ(buckets[0].module, 1);
  EXPECT_EQ(buckets[1].module, 2);
  for (const Bucket& bucket : buckets) {
    EXPECT_EQ(bucket.elements % (32 * 3), 0);
    const auto& entries = bucket.entries;
    ASSERT_EQ(entries.size(), 6u);
    for (size_t i = 0; i < entries.size(); ++i) {
      EXPECT_EQ(entries[i].parameter->module, bucket.module);
      EXPECT_GE(entries[i].begin, i == 0 ? 0 : entries[i - 1].end());
      // Fused ones lie back to back, all others on a multiple of 32.
      if (entries[i].parameter->fused_with_previous) {
        EXPECT_EQ(entries[i].begin, entries[i - 1].end()) << entries[i].parameter->name;
      } else {
        EXPECT_EQ(entries[i].begin % 32, 0) << entries[i].parameter->name;
      }
    }
    EXPECT_LE(entries.back().end(), bucket.elements);
  }
}

// Where a dim does not divide evenly, ranks hold slices of different sizes at the same places.
TEST(Placement, AllTensorRanksLayABucketOutAlike) {
  const ParameterTable table = ExampleTable();
  for (const int tensor : {2, 4, 5}) {
    const MeshSizes sizes = {{Axis::kTensor, tensor}, {Axis::kData, 2}};
    const auto first = PlaceParameters(table, Mesh(sizes, 0), {0, 1, 2, 3}, kElements, kSplit);
    for (int index = 1; index < tensor; ++index) {
      const auto other = PlaceParameters(table, Mesh(sizes, index), {0, 1, 2, 3}, kElements, kSplit);
      ASSERT_EQ(other.size(), first.size());
      for (size_t b = 0; b < first.size(); ++b) {
        EXPECT_EQ(other[b].elements, first[b].elements);
        for (size_t e = 0; e < first[b].entries.size(); ++e) {
          EXPECT_EQ(other[b].entries[e].begin, first[b].entries[e].begin);
          EXPECT_EQ(other[b].entries[e].parameter, first[b].entries[e].parameter);
        }
      }
    }
  }
}

TEST(Placement, ATiedParameterIsABucketOfItsOwnOnBothStages) {
  const ParameterTable table = ExampleTable();
  const auto names = [&](const std::vector<int>& modules) {
    std::vector<std::string> all;
    for (const Bucket& bucket : PlaceParameters(table, Mesh({}, 0), modules, kElements, kSplit)) {
      all.push_back(std::to_string(bucket.module));
      for (const int tied : bucket.tied_modules) all.back() += "/" + std::to_string(tied);
      all.back() += ":";
      for (const BucketEntry& entry : bucket.entries) all.back() += " " + entry.parameter->name;
    }
    return all;
  };
  EXPECT_EQ(names({0}), (std::vector<std::string>{"0: position", "0/3: token"}));
  EXPECT_EQ(names({3}), (std::vector<std::string>{"0/3: token", "3: norm"}));
  EXPECT_EQ(names({0, 3}), (std::vector<std::string>{"0: position", "0/3: token", "3: norm"}));
}

// The shares of the data ranks of all tensor ranks: each element of each parameter in exactly one piece, but for those
// that every tensor rank holds.
TEST(Placement, PiecesOfAllSharesTileEveryParameter) {
  const ParameterTable table = ExampleTable();
  for (const int tensor : {1, 2, 3}) {
    for (const int data : {1, 2, 3, 4, 7}) {
      SCOPED_TRACE(std::to_string(tensor) + " x " + std::to_string(data));
      std::map<std::string, std::vector<int>> counts;
      for (const Parameter& parameter : table.all()) {
        counts[parameter.name].resize(static_cast<size_t>(parameter.shape.elements()));
      }
      for (int t = 0; t < tensor; ++t) {
        const Mesh mesh({{Axis::kTensor, tensor}, {Axis::kData, data}}, t);
        for (const Bucket& bucket : PlaceParameters(table, mesh, {0, 1, 2, 3}, kElements, kSplit)) {
          const int64_t share = bucket.elements / data;
          for (int d = 0; d < data; ++d) {
            for (const Piece& piece : PiecesOf(bucket, d * share, (d + 1) * share)) {
              EXPECT_GE(piece.begin, d * share);
              EXPECT_LE(piece.begin + piece.box.extent.elements(), (d + 1) * share);
              ForEachElement(piece.parameter->shape, piece.box,
                             [&](size_t global, size_t) { ++counts[piece.parameter->name][global]; });
            }
          }
        }
      }
      for (const Parameter& parameter : table.all()) {
        const int held = parameter.splits.empty() ? tensor : 1;
        for (const int count : counts[parameter.name]) ASSERT_EQ(count, held) << parameter.name;
      }
    }
  }
}

// Experts, say: a matrix for each, split over two axes, one of which other parameters are replicated over.
TEST(Placement, TwoDimsAreSplitOverTwoAxes) {
  ParameterTable table;
  table.Add({.name = "router", .module = 1, .shape = {4, 3}});
  table.Add({.name = "experts", .module = 1, .shape = {4, 6, 3}, .splits = {{0, Axis::kData}, {1, Axis::kTensor}}});
  const Mesh mesh({{Axis::kTensor, 3}, {Axis::kData, 2}}, /*tensor 2, data 1*/ 5);
  EXPECT_EQ(SliceOf(table.Find("experts"), mesh), (Box{{2, 4, 0}, {2, 2, 3}}));
  const auto buckets = PlaceParameters(table, mesh, {1}, kElements, kSplit);
  ASSERT_EQ(buckets.size(), 2u);
  EXPECT_EQ(buckets[0].replicas, AxisSet(Axis::kContext));
  EXPECT_EQ(buckets[0].entries[0].parameter->name, "experts");
  EXPECT_EQ(buckets[0].entries[0].box.extent.elements(), 12);
  EXPECT_EQ(buckets[1].replicas, AxisSet({Axis::kContext, Axis::kData}));
  EXPECT_EQ(buckets[1].entries[0].parameter->name, "router");
}

// For an optimizer of whole matrices: each share has whole parameters, the largest of them as even as can be; vectors
// are of another group and cut anywhere.
TEST(Placement, WholeParametersAreNotCut) {
  OptimizerLayout matrices;
  matrices.groups = {{.state = {"m", "v"}}, {.state = {"momentum"}, .whole_parameters = true}};
  matrices.group_of = [](const Parameter& parameter) -> size_t { return parameter.shape.rank() == 2 ? 1 : 0; };
  const ParameterTable table = ExampleTable();
  for (const int data : {1, 2, 3, 5}) {
    std::set<std::string> seen;
    for (const Bucket& bucket :
         PlaceParameters(table, Mesh({{Axis::kData, data}}, 0), {0, 1, 2, 3}, matrices, kSplit)) {
      const int64_t share = bucket.elements / data;
      EXPECT_EQ(share % 32, 0);
      int64_t end = 0;
      for (const BucketEntry& entry : bucket.entries) {
        EXPECT_TRUE(seen.insert(entry.parameter->name).second);
        EXPECT_EQ(matrices.GroupOf(*entry.parameter), bucket.optimizer_group);
        EXPECT_GE(entry.begin, end) << entry.parameter->name << " lies on the one before";
        end = entry.end();
        if (bucket.optimizer_group == 1) {
          EXPECT_EQ(entry.begin / share, (end - 1) / share) << entry.parameter->name << " is cut, data " << data;
        }
        if (entry.parameter->fused_with_previous) {
          EXPECT_EQ(entry.begin, (&entry - 1)->end());
        }
      }
      EXPECT_LE(end, bucket.elements);
      // A block's q, k, v (120 elements) and output (45): of two shares or more the fullest holds the first three.
      if (bucket.module == 1 && bucket.optimizer_group == 1 && data > 1) {
        EXPECT_EQ(share, 128);
      }
    }
    EXPECT_EQ(seen.size(), table.all().size());
  }
}

TEST(Placement, PiecesLieInTheBucketAsInTheirEntry) {
  const ParameterTable table = ExampleTable();
  const auto buckets = PlaceParameters(table, Mesh({{Axis::kTensor, 2}, {Axis::kData, 2}}, 1), {1}, kElements, kSplit);
  const BucketEntry& entry = buckets[0].entries[0];
  ASSERT_EQ(entry.box.extent, (Shape{4, 5}));
  const auto pieces = PiecesOf(buckets[0], entry.begin + 7, entry.end() - 2);
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].begin, entry.begin + 7);
  EXPECT_EQ(pieces[0].box, (Box{{5, 2}, {1, 3}}));
  EXPECT_EQ(pieces[1].begin, entry.begin + 10);
  EXPECT_EQ(pieces[1].box, (Box{{6, 0}, {1, 5}}));
  EXPECT_EQ(pieces[2].begin, entry.begin + 15);
  EXPECT_EQ(pieces[2].box, (Box{{7, 0}, {1, 3}}));
}

}  // namespace
}  // namespace trefoil
