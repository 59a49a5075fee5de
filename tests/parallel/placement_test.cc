#include "parallel/placement.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/parallel/example_table.h"

namespace trefoil {
namespace {

TEST(Placement, TensorSlicesDifferByOneRowAtMostAndFollowEachOther) {
  const Parameter split = {.name = "w", .shape = {10, 3}, .split_dim = 0};
  const int64_t begins[] = {0, 2, 5, 7, 10};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(TensorSlice(split, 4, i), (Box{{begins[i], 0}, {begins[i + 1] - begins[i], 3}})) << i;
  }
  EXPECT_EQ(TensorSlice({.name = "w", .shape = {3, 10}, .split_dim = 1}, 4, 1), (Box{{0, 2}, {3, 3}}));
  EXPECT_EQ(TensorSlice({.name = "w", .shape = {3, 10}, .split_dim = -1}, 4, 1), (Box{{0, 0}, {3, 10}}));
}

TEST(Placement, AHomeIsABucketWithAlignedEntriesInOrderOfDeclaration) {
  const ParameterTable table = ExampleTable();
  const auto buckets = PlaceParameters(table, Mesh({.tensor = 2, .data = 3}, 1), {2, 1});
  ASSERT_EQ(buckets.size(), 2u);
  EXPECT_EQ(buckets[0].home, 1);
  EXPECT_EQ(buckets[1].home, 2);
  for (const Bucket& bucket : buckets) {
    EXPECT_EQ(bucket.elements % (32 * 3), 0);
    const auto& entries = bucket.entries;
    ASSERT_EQ(entries.size(), 6u);
    for (size_t i = 0; i < entries.size(); ++i) {
      EXPECT_EQ(entries[i].parameter->home, bucket.home);
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
    const auto first = PlaceParameters(table, Mesh({.tensor = tensor, .data = 2}, 0), {0, 1, 2, 3});
    for (int index = 1; index < tensor; ++index) {
      const auto other = PlaceParameters(table, Mesh({.tensor = tensor, .data = 2}, index), {0, 1, 2, 3});
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
  const auto names = [&](const std::vector<int>& homes) {
    std::vector<std::string> all;
    for (const Bucket& bucket : PlaceParameters(table, Mesh({}, 0), homes)) {
      all.push_back(std::to_string(bucket.home) + "/" + std::to_string(bucket.tied_home) + ":");
      for (const BucketEntry& entry : bucket.entries) all.back() += " " + entry.parameter->name;
    }
    return all;
  };
  EXPECT_EQ(names({0}), (std::vector<std::string>{"0/-1: position", "0/3: token"}));
  EXPECT_EQ(names({3}), (std::vector<std::string>{"0/3: token", "3/-1: norm"}));
  EXPECT_EQ(names({0, 3}), (std::vector<std::string>{"0/-1: position", "0/3: token", "3/-1: norm"}));
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
        for (const Bucket& bucket : PlaceParameters(table, Mesh({.tensor = tensor, .data = data}, t), {0, 1, 2, 3})) {
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
        const int held = parameter.split_dim < 0 ? tensor : 1;
        for (const int count : counts[parameter.name]) ASSERT_EQ(count, held) << parameter.name;
      }
    }
  }
}

TEST(Placement, PiecesLieInTheBucketAsInTheirEntry) {
  const ParameterTable table = ExampleTable();
  const auto buckets = PlaceParameters(table, Mesh({.tensor = 2, .data = 2}, 1), {1});
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
