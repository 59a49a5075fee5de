#include "data/tokens/token_set.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "tests/data/data_testing.h"

namespace trefoil {
namespace {

std::string Counting() {
  const std::string folder = TestFolder();
  WriteCounting(folder);
  return folder;
}

TEST(TokenSet, SamplesTileTheStreamAcrossFiles) {
  const std::string folder = Counting();
  auto set = TokenSet::Open({folder + "/train-*"}, 10, 1000);
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_EQ(set->tokens(), 203);
  ASSERT_EQ(set->samples(), 20);  // (203 - 1) / 10
  for (int sample = 0; sample < 20; ++sample) {
    std::vector<int32_t> tokens(11), expected(11);
    std::iota(expected.begin(), expected.end(), 10 * sample);
    ASSERT_TRUE(set->ReadSample(sample, tokens).ok());
    EXPECT_EQ(tokens, expected);
  }
}

TEST(TokenSet, ASampleMayUseTheLastToken) {
  const std::string folder = TestFolder();
  WriteDocuments(folder + "/x", {{1, 2, 3, 4, 5}});
  EXPECT_EQ(TokenSet::Open({folder + "/x"}, 4, 1000)->samples(), 1);
  EXPECT_EQ(TokenSet::Open({folder + "/x"}, 2, 1000)->samples(), 2);
  EXPECT_EQ(TokenSet::Open({folder + "/x"}, 3, 1000)->samples(), 1);
}

TEST(TokenSet, AFileNamedTwiceCountsOnce) {
  const std::string folder = Counting();
  EXPECT_EQ(TokenSet::Open({folder + "/train-*", folder + "/train-00001", folder + "/train-00002.idx"}, 10, 1000)->tokens(),
            203);
  EXPECT_EQ(TokenSet::Open({folder + "/train-00001.bin"}, 2, 1000)->tokens(), 3);
}

TEST(TokenSet, ANameThatIsThereIsThatFile) {
  const std::string folder = TestFolder();
  WriteDocuments(folder + "/x[1]", {{1, 2, 3, 4, 5}});
  EXPECT_EQ(TokenSet::Open({folder + "/x[1]"}, 4, 1000)->samples(), 1);
}

TEST(TokenSet, AGlobWithoutMatchIsNamed) {
  const std::string folder = Counting();
  ExpectError(TokenSet::Open({folder + "/train-*", folder + "/valid-*"}, 10, 1000).status(),
              {"/valid-*", "no token file", "trefoil tokenize"});
  ExpectError(TokenSet::Open({folder + "/valid"}, 10, 1000).status(), {"/valid.idx", "missing"});
  ExpectError(TokenSet::Open({}, 10, 1000).status(), {"no token files named"});
}

TEST(TokenSet, HalfAPairIsNotSkipped) {
  const std::string folder = Counting();
  ASSERT_TRUE(FileSystem::Posix().Remove(folder + "/train-00001.idx").ok());
  ExpectError(TokenSet::Open({folder + "/train-*"}, 10, 1000).status(), {"train-00001.idx", "missing"});
}

TEST(TokenSet, AZeroLengthCorpusIsExplained) {
  const std::string folder = TestFolder();
  WriteDocuments(folder + "/x", {{1, 2, 3, 4, 5}});
  ExpectError(TokenSet::Open({folder + "/x"}, 5, 1000).status(),
              {"zero-length corpus", "5 tokens", "sequence_length 5", "needs 6", "allow: 4"});
  WriteDocuments(folder + "/y", {{1}});
  ExpectError(TokenSet::Open({folder + "/y"}, 1, 1000).status(), {"zero-length corpus", "1 tokens", "at least 2"});
}

TEST(TokenSet, ATokenOutsideTheVocabularyIsLocated) {
  const std::string folder = TestFolder();
  WriteDocuments(folder + "/a", {{1, 2, 3, 4}});
  WriteDocuments(folder + "/b", {{5, 6, 500, 7, 8}});
  auto set = TokenSet::Open({folder + "/*"}, 4, 500);
  ASSERT_TRUE(set.ok()) << set.status();
  std::vector<int32_t> tokens(5);
  ExpectError(set->ReadSample(1, tokens), {"/b.bin", "token 2", "id 500", "[0, 500)"});
  EXPECT_TRUE(set->ReadSample(0, tokens).ok());
  auto enough = TokenSet::Open({folder + "/*"}, 4, 501);
  ASSERT_TRUE(enough.ok());
  EXPECT_TRUE(enough->ReadSample(1, tokens).ok());
}

// What others do to a file while it is in use is an error that names it, not the end of the process.
TEST(TokenSet, AFileThatIsChangedMeanwhileIsNamed) {
  const std::string folder = Counting();
  std::vector<int32_t> tokens(11);
  auto set = TokenSet::Open({folder + "/train-*"}, 10, 1000);
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(truncate((folder + "/train-00002.bin").c_str(), 40), 0);
  ExpectError(set->ReadSample(19, tokens), {"/train-00002.bin", "has 40 bytes, had 198 when it was opened"});
  ExpectError(set->ReadSample(11, tokens), {"/train-00002.bin", "has 40 bytes, had 198 when it was opened"});
  EXPECT_TRUE(set->ReadSample(0, tokens).ok()) << "the other files are whole";

  Counting();
  set = TokenSet::Open({folder + "/train-*"}, 10, 1000);
  ASSERT_TRUE(set.ok());
  usleep(20'000);  // the clock of file times is coarse
  std::fstream(folder + "/train-00000.bin", std::ios::in | std::ios::out | std::ios::binary).put('x');
  ExpectError(set->ReadSample(5, tokens), {"/train-00000.bin", "was written to after it was opened"});

  // A pair that is replaced, as the writer does it, stays what it was for those who have it open.
  Counting();
  set = TokenSet::Open({folder + "/train-*"}, 10, 1000);
  ASSERT_TRUE(set.ok());
  WriteDocuments(folder + "/train-00000", {{7, 7, 7}});
  ASSERT_TRUE(set->ReadSample(5, tokens).ok());
  EXPECT_EQ(tokens[0], 50);
}

}  // namespace
}  // namespace trefoil
