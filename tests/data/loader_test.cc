#include "data/loader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/token_file.h"
#include "runtime/file.h"

namespace trefoil {
namespace {

std::string Folder() {
  const std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
                             std::to_string(getpid());
  EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  return folder;
}

void WritePair(const std::string& prefix, const std::vector<int32_t>& tokens, int64_t vocabulary = 1000) {
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), prefix, vocabulary);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->AddDocument(tokens).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

// Three files that hold 0, 1, 2 ... 202 in order: token t of the data set is t. The middle one is shorter than a
// sample.
std::string WriteCounting() {
  const std::string folder = Folder();
  std::vector<int32_t> all(203);
  std::iota(all.begin(), all.end(), 0);
  WritePair(folder + "/train-00000", {all.begin(), all.begin() + 101});
  WritePair(folder + "/train-00001", {all.begin() + 101, all.begin() + 104});
  WritePair(folder + "/train-00002", {all.begin() + 104, all.end()});
  return folder;
}

std::unique_ptr<Loader> OpenOrDie(const std::vector<std::string>& globs, int64_t length, uint64_t seed) {
  auto loader = Loader::Open(globs, length, 1000, seed);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return *std::move(loader);
}

void ExpectError(const absl::Status& status, std::initializer_list<const char*> parts) {
  ASSERT_FALSE(status.ok());
  for (const char* part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks " << part;
  }
}

TEST(Loader, SamplesTileTheStreamAcrossFiles) {
  const std::string folder = WriteCounting();
  auto loader = OpenOrDie({folder + "/train-*"}, 10, 1);
  ASSERT_EQ(loader->tokens(), 203);
  ASSERT_EQ(loader->samples(), 20);  // (203 - 1) / 10
  auto batch = loader->GetInOrder(3, 17);
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->samples, 17);
  EXPECT_EQ(batch->length, 10);
  EXPECT_EQ(batch->first_sample, 3);
  ASSERT_EQ(batch->inputs.size(), 170u);
  ASSERT_EQ(batch->targets.size(), 170u);
  for (int i = 0; i < 170; ++i) {
    EXPECT_EQ(batch->inputs[i], 30 + i);
    EXPECT_EQ(batch->targets[i], 31 + i);
  }
}

TEST(Loader, ASampleMayUseTheLastToken) {
  const std::string folder = Folder();
  WritePair(folder + "/x", {1, 2, 3, 4, 5});
  EXPECT_EQ(OpenOrDie({folder + "/x"}, 4, 1)->samples(), 1);
  EXPECT_EQ(OpenOrDie({folder + "/x"}, 2, 1)->samples(), 2);
  EXPECT_EQ(OpenOrDie({folder + "/x"}, 3, 1)->samples(), 1);
}

TEST(Loader, EpochsCoverTheDataSet) {
  const std::string folder = WriteCounting();
  auto loader = OpenOrDie({folder + "/train-*"}, 10, 5);
  std::vector<std::vector<int32_t>> orders;
  for (int epoch = 0; epoch < 2; ++epoch) {
    auto batch = loader->Get(epoch * 20, 20);
    ASSERT_TRUE(batch.ok());
    std::vector<int32_t> first;
    for (int b = 0; b < 20; ++b) {
      for (int t = 0; t < 10; ++t) {
        EXPECT_EQ(batch->inputs[b * 10 + t], batch->inputs[b * 10] + t);
        EXPECT_EQ(batch->targets[b * 10 + t], batch->inputs[b * 10 + t] + 1);
      }
      first.push_back(batch->inputs[b * 10]);
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
  const std::string folder = WriteCounting();
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
        read.insert(read.end(), batch->inputs.begin(), batch->inputs.end());
      }
    }
    if (reference.empty()) reference = read;
    EXPECT_EQ(read, reference) << ranks << " ranks";
  }
  auto resumed = OpenOrDie({folder + "/train-*"}, kLength, 42)->Get(3 * kBatch, kBatch);
  EXPECT_TRUE(std::equal(resumed->inputs.begin(), resumed->inputs.end(), reference.begin() + 3 * kBatch * kLength));
}

TEST(Loader, AFileNamedTwiceCountsOnce) {
  const std::string folder = WriteCounting();
  EXPECT_EQ(OpenOrDie({folder + "/train-*", folder + "/train-00001", folder + "/train-00002.idx"}, 10, 1)->tokens(),
            203);
  EXPECT_EQ(OpenOrDie({folder + "/train-00001.bin"}, 2, 1)->tokens(), 3);
}

TEST(Loader, AGlobWithoutMatchIsNamed) {
  const std::string folder = WriteCounting();
  ExpectError(Loader::Open({folder + "/train-*", folder + "/valid-*"}, 10, 1000, 1).status(),
              {"/valid-*", "no token file", "trefoil tokenize"});
  ExpectError(Loader::Open({folder + "/valid"}, 10, 1000, 1).status(), {"/valid.idx", "missing"});
  ExpectError(Loader::Open({}, 10, 1000, 1).status(), {"no token files named"});
}

TEST(Loader, HalfAPairIsNotSkipped) {
  const std::string folder = WriteCounting();
  ASSERT_TRUE(FileSystem::Posix().Remove(folder + "/train-00001.idx").ok());
  ExpectError(Loader::Open({folder + "/train-*"}, 10, 1000, 1).status(), {"train-00001.idx", "missing"});
}

TEST(Loader, AZeroLengthCorpusIsExplained) {
  const std::string folder = Folder();
  WritePair(folder + "/x", {1, 2, 3, 4, 5});
  ExpectError(Loader::Open({folder + "/x"}, 5, 1000, 1).status(),
              {"zero-length corpus", "5 tokens", "sequence_length 5", "needs 6", "allow: 4"});
  WritePair(folder + "/y", {1});
  ExpectError(Loader::Open({folder + "/y"}, 1, 1000, 1).status(), {"zero-length corpus", "1 tokens", "at least 2"});
}

TEST(Loader, ATokenOutsideTheVocabularyIsLocated) {
  const std::string folder = Folder();
  WritePair(folder + "/a", {1, 2, 3, 4});
  WritePair(folder + "/b", {5, 6, 500, 7, 8});
  auto loader = Loader::Open({folder + "/*"}, 4, 500, 1);
  ASSERT_TRUE(loader.ok()) << loader.status();
  ExpectError((*loader)->GetInOrder(0, 2).status(), {"/b.bin", "token 2", "id 500", "[0, 500)"});
  ExpectError((*loader)->UnigramEntropy().status(), {"/b.bin", "token 2", "id 500"});
  EXPECT_TRUE((*loader)->GetInOrder(0, 1).ok());
  auto enough = Loader::Open({folder + "/*"}, 4, 501, 1);
  ASSERT_TRUE(enough.ok());
  EXPECT_TRUE((*enough)->GetInOrder(0, 2).ok());
}

TEST(Loader, UnigramEntropyOfKnownCounts) {
  const std::string folder = Folder();
  WritePair(folder + "/x", {0, 0, 0, 0, 1, 1, 2, 3});
  auto entropy = OpenOrDie({folder + "/x"}, 2, 1)->UnigramEntropy();
  ASSERT_TRUE(entropy.ok());
  EXPECT_NEAR(*entropy, 1.75 * std::log(2.0), 1e-12);
}

}  // namespace
}  // namespace trefoil
