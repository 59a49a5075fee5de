#include "data/tokens/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "tests/data/data_testing.h"

namespace trefoil {
namespace {

std::string Counting() {
  const std::string folder = TestFolder();
  WriteCounting(folder);
  return folder;
}

std::unique_ptr<Loader> OpenOrDie(const std::vector<std::string>& globs, int64_t length, uint64_t seed) {
  auto loader = Loader::Open(globs, length, 1000, seed);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return *std::move(loader);
}

// Documents of the counting tokens: in files of 60 and 43, the second begins with an empty one.
TEST(Loader, SaysWhereDocumentsBegin) {
  const std::string folder = TestFolder();
  int32_t token = 0;
  const std::vector<std::vector<int>> lengths = {{3, 1, 16, 0, 40}, {0, 2, 41}};
  std::vector<int32_t> starts = {};  // of each token
  for (size_t i = 0; i < lengths.size(); ++i) {
    std::vector<std::vector<int32_t>> documents;
    for (const int length : lengths[i]) {
      std::vector<int32_t>& document = documents.emplace_back(static_cast<size_t>(length));
      std::iota(document.begin(), document.end(), token);
      starts.insert(starts.end(), document.size(), token);
      token += length;
    }
    WriteDocuments(folder + "/train-" + std::to_string(i), documents);
  }
  const auto loader = Loader::Open({folder + "/train-*"}, 10, 1000, 3, {}, /*documents=*/true);
  ASSERT_TRUE(loader.ok()) << loader.status();
  EXPECT_TRUE((*loader)->weighted());
  const auto batch = (*loader)->Get(0, 10);
  ASSERT_TRUE(batch.ok());
  for (int b = 0; b < 10; ++b) {
    const int32_t first = batch->inputs.values<int32_t>()[static_cast<size_t>(b * 10)];
    for (int t = 0; t < 10; ++t) {
      const auto at = static_cast<size_t>(b * 10 + t), number = static_cast<size_t>(first + t);
      EXPECT_EQ(batch->document_starts.values<int32_t>()[at], std::max(0, starts[number] - first)) << number;
      EXPECT_EQ(batch->weights.values<float>()[at], starts[number + 1] == starts[number] ? 1 : 0) << number;
    }
  }
  EXPECT_FALSE(OpenOrDie({folder + "/train-*"}, 10, 3)->Get(0, 1)->document_starts.defined());
}

TEST(Loader, EpochsCoverTheDataSet) {
  const std::string folder = Counting();
  auto loader = OpenOrDie({folder + "/train-*"}, 10, 5);
  std::vector<std::vector<int32_t>> orders;
  for (int epoch = 0; epoch < 2; ++epoch) {
    auto batch = loader->Get(epoch * 20, 20);
    ASSERT_TRUE(batch.ok());
    std::vector<int32_t> first;
    for (int b = 0; b < 20; ++b) {
      for (int t = 0; t < 10; ++t) {
        EXPECT_EQ(batch->inputs.values<int32_t>()[b * 10 + t], batch->inputs.values<int32_t>()[b * 10] + t);
        EXPECT_EQ(batch->targets.values<int32_t>()[b * 10 + t], batch->inputs.values<int32_t>()[b * 10 + t] + 1);
      }
      first.push_back(batch->inputs.values<int32_t>()[b * 10]);
    }
    orders.push_back(first);
    std::sort(first.begin(), first.end());
    for (int b = 0; b < 20; ++b) EXPECT_EQ(first[b], 10 * b);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_FALSE(std::is_sorted(orders[0].begin(), orders[0].end()));
}

// What the ranks of a step read, put together, is the same for every number of ranks and after a resume at any sample.
TEST(Loader, SequenceOfSamplesDoesNotDependOnDataSize) {
  const std::string folder = Counting();
  constexpr int64_t kBatch = 8, kSteps = 7, kLength = 10;
  std::vector<int32_t> reference;
  for (int ranks : {1, 2, 4, 8}) {
    std::vector<int32_t> read;
    std::vector<std::unique_ptr<Loader>> loaders;
    for (int rank = 0; rank < ranks; ++rank) loaders.push_back(OpenOrDie({folder + "/train-*"}, kLength, 42));
    for (int64_t step = 0; step < kSteps; ++step) {
      for (int rank = 0; rank < ranks; ++rank) {
        const int64_t share = kBatch / ranks;
        auto batch = loaders[rank]->Get(step * kBatch + rank * share, share);
        ASSERT_TRUE(batch.ok());
        read.insert(read.end(), batch->inputs.values<int32_t>().begin(), batch->inputs.values<int32_t>().end());
      }
    }
    if (reference.empty()) reference = read;
    EXPECT_EQ(read, reference) << ranks << " ranks";
  }
  auto resumed = OpenOrDie({folder + "/train-*"}, kLength, 42)->Get(3 * kBatch, kBatch);
  const std::vector<int32_t>& ids = resumed->inputs.values<int32_t>();
  EXPECT_TRUE(std::equal(ids.begin(), ids.end(), reference.begin() + 3 * kBatch * kLength));
}

TEST(Loader, CountsTargetsOfTheSamplesThatAreRead) {
  const std::string folder = TestFolder();
  WriteDocuments(folder + "/x", {{9, 0, 0, 0, 0, 1, 1, 2, 3}});
  auto loader = OpenOrDie({folder + "/x"}, 2, 1);
  ASSERT_EQ(loader->samples(), 4);
  std::vector<int64_t> counts(1000);
  ASSERT_TRUE(loader->CountTargets(0, 4, counts).ok());
  EXPECT_EQ((std::vector<int64_t>(counts.begin(), counts.begin() + 4)), (std::vector<int64_t>{4, 2, 1, 1}));
  EXPECT_EQ(counts[9], 0) << "the first token is no target";
  EXPECT_NEAR(Entropy(counts), 1.75 * std::log(2.0), 1e-12);
  EXPECT_EQ(Entropy(std::vector<int64_t>{0, 0}), 0);
  // A part of the samples: the targets of just those.
  std::vector<int64_t> part(1000);
  ASSERT_TRUE(loader->CountTargets(1, 2, part).ok());
  const auto batch = loader->Get(1, 2);
  ASSERT_TRUE(batch.ok());
  for (const int32_t id : batch->targets.values<int32_t>()) --part[static_cast<size_t>(id)];
  EXPECT_EQ(part, std::vector<int64_t>(1000));
}

// Which source each row of the run is from, by its tokens: source i has the tokens 100 i to 100 i + 99.
std::vector<int> Sources(const Batch& batch) {
  std::vector<int> sources;
  for (int64_t row = 0; row < batch.samples; ++row) {
    sources.push_back(batch.inputs.values<int32_t>()[row * batch.length] / 100);
  }
  return sources;
}

// Three sources of 9, 4 and 3 samples of 10 tokens; sample j of source i begins with token 100 i + 10 j.
std::string WriteSources() {
  const std::string folder = TestFolder();
  for (const auto& [name, first, count] : {std::tuple("a", 0, 91), std::tuple("b", 100, 41), std::tuple("c", 200, 31)}) {
    std::vector<int32_t> tokens(count);
    std::iota(tokens.begin(), tokens.end(), first);
    WriteDocuments(folder + "/" + name + "-00000", {tokens});
  }
  return folder;
}

TEST(Loader, WeightsMixSources) {
  const std::string folder = WriteSources();
  const std::vector<std::string> globs = {folder + "/a-*", folder + "/b-*", folder + "/c-*"};
  auto mixed = Loader::Open(globs, 10, 1000, 42, {5, 3, 2});
  ASSERT_TRUE(mixed.ok()) << mixed.status();
  EXPECT_EQ((*mixed)->samples(), 16);
  auto batch = (*mixed)->Get(0, 100);
  ASSERT_TRUE(batch.ok());
  const std::vector<int> sources = Sources(*batch);
  std::vector<std::vector<int32_t>> used(3);  // first tokens of the samples of each source, in order
  for (int k = 0; k < 100; ++k) {
    used[sources[k]].push_back(batch->inputs.values<int32_t>()[k * 10]);
    const double weights[] = {0.5, 0.3, 0.2};
    for (int i = 0; i < 3; ++i) EXPECT_NEAR(used[i].size(), weights[i] * (k + 1), 1.0) << "sample " << k;
  }
  // Each source goes through epochs of its own: all its samples, then all again in another order.
  const size_t samples[] = {9, 4, 3};
  for (int i = 0; i < 3; ++i) {
    std::vector<std::vector<int32_t>> epochs;
    for (size_t begin = 0; begin + samples[i] <= used[i].size(); begin += samples[i]) {
      epochs.emplace_back(used[i].begin() + begin, used[i].begin() + begin + samples[i]);
      std::vector<int32_t> sorted = epochs.back();
      std::sort(sorted.begin(), sorted.end());
      for (size_t j = 0; j < samples[i]; ++j) EXPECT_EQ(sorted[j], 100 * i + 10 * static_cast<int>(j));
    }
    EXPECT_GE(epochs.size(), 5u);
    EXPECT_NE(epochs[0], epochs[1]);
    EXPECT_NEAR((*mixed)->Epochs(i, 100), static_cast<double>(used[i].size()) / samples[i], 1e-12);
  }
  // The same in parts, as ranks read it, and after a resume anywhere.
  for (const int64_t first : {0, 1, 37, 96}) {
    const auto part = Loader::Open(globs, 10, 1000, 42, {0.5, 0.3, 0.2}).value()->Get(first, 4);
    ASSERT_TRUE(part.ok());
    const std::vector<int32_t>& ids = part->inputs.values<int32_t>();
    EXPECT_TRUE(std::equal(ids.begin(), ids.end(), batch->inputs.values<int32_t>().begin() + first * 10)) << first;
  }
  // Another seed: the same sources, other samples of them.
  const auto other = Loader::Open(globs, 10, 1000, 43, {5, 3, 2}).value()->Get(0, 100);
  EXPECT_EQ(Sources(*other), sources);
  EXPECT_NE(other->inputs.values<int32_t>(), batch->inputs.values<int32_t>());
}

TEST(Loader, OneWeightIsNoWeight) {
  const std::string folder = Counting();
  const auto plain = OpenOrDie({folder + "/train-*"}, 10, 5)->Get(0, 50);
  const auto weighted = Loader::Open({folder + "/train-*"}, 10, 1000, 5, {3}).value()->Get(0, 50);
  EXPECT_EQ(plain->inputs.values<int32_t>(), weighted->inputs.values<int32_t>());
}

TEST(Loader, AFileOfTwoSourcesIsRefused) {
  const std::string folder = WriteSources();
  ExpectError(Loader::Open({folder + "/a-*", folder + "/*-00000"}, 10, 1000, 1, {1, 1}).status(),
              {"/a-00000 is matched by", "/a-*", "/*-00000"});
}

}  // namespace
}  // namespace trefoil
