#include "data/tokens/token_set.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "data/tokens/token_file.h"
#include "runtime/files/file.h"

namespace trefoil {
namespace {

std::string Folder() {
  const std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
                             std::to_string(getpid());
  EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  return folder;
}

void WritePair(const std::string& prefix, const std::vector<int32_t>& tokens) {
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), prefix, 1000);
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

void ExpectError(const absl::Status& status, std::initializer_list<const char*> parts) {
  ASSERT_FALSE(status.ok());
  for (const char* part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks " << part;
  }
}

TEST(TokenSet, SamplesTileTheStreamAcrossFiles) {
  const std::string folder = WriteCounting();
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
  const std::string folder = Folder();
  WritePair(folder + "/x", {1, 2, 3, 4, 5});
  EXPECT_EQ(TokenSet::Open({folder + "/x"}, 4, 1000)->samples(), 1);
  EXPECT_EQ(TokenSet::Open({folder + "/x"}, 2, 1000)->samples(), 2);
  EXPECT_EQ(TokenSet::Open({folder + "/x"}, 3, 1000)->samples(), 1);
}

TEST(TokenSet, AFileNamedTwiceCountsOnce) {
  const std::string folder = WriteCounting();
  EXPECT_EQ(TokenSet::Open({folder + "/train-*", folder + "/train-00001", folder + "/train-00002.idx"}, 10, 1000)->tokens(),
            203);
  EXPECT_EQ(TokenSet::Open({folder + "/train-00001.bin"}, 2, 1000)->tokens(), 3);
}

TEST(TokenSet, ANameThatIsThereIsThatFile) {
  const std::string folder = Folder();
  WritePair(folder + "/x[1]", {1, 2, 3, 4, 5});
  EXPECT_EQ(TokenSet::Open({folder + "/x[1]"}, 4, 1000)->samples(), 1);
}

TEST(TokenSet, AGlobWithoutMatchIsNamed) {
  const std::string folder = WriteCounting();
  ExpectError(TokenSet::Open({folder + "/train-*", folder + "/valid-*"}, 10, 1000).status(),
              {"/valid-*", "no token file", "trefoil tokenize"});
  ExpectError(TokenSet::Open({folder + "/valid"}, 10, 1000).status(), {"/valid.idx", "missing"});
  ExpectError(TokenSet::Open({}, 10, 1000).status(), {"no token files named"});
}

TEST(TokenSet, HalfAPairIsNotSkipped) {
  const std::string folder = WriteCounting();
  ASSERT_TRUE(FileSystem::Posix().Remove(folder + "/train-00001.idx").ok());
  ExpectError(TokenSet::Open({folder + "/train-*"}, 10, 1000).status(), {"train-00001.idx", "missing"});
}

TEST(TokenSet, AZeroLengthCorpusIsExplained) {
  const std::string folder = Folder();
  WritePair(folder + "/x", {1, 2, 3, 4, 5});
  ExpectError(TokenSet::Open({folder + "/x"}, 5, 1000).status(),
              {"zero-length corpus", "5 tokens", "sequence_length 5", "needs 6", "allow: 4"});
  WritePair(folder + "/y", {1});
  ExpectError(TokenSet::Open({folder + "/y"}, 1, 1000).status(), {"zero-length corpus", "1 tokens", "at least 2"});
}

TEST(TokenSet, ATokenOutsideTheVocabularyIsLocated) {
  const std::string folder = Folder();
  WritePair(folder + "/a", {1, 2, 3, 4});
  WritePair(folder + "/b", {5, 6, 500, 7, 8});
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
  const std::string folder = WriteCounting();
  std::vector<int32_t> tokens(11);
  auto set = TokenSet::Open({folder + "/train-*"}, 10, 1000);
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(truncate((folder + "/train-00002.bin").c_str(), 40), 0);
  ExpectError(set->ReadSample(19, tokens), {"/train-00002.bin", "has 40 bytes, had 198 when it was opened"});
  ExpectError(set->ReadSample(11, tokens), {"/train-00002.bin", "has 40 bytes, had 198 when it was opened"});
  EXPECT_TRUE(set->ReadSample(0, tokens).ok()) << "the other files are whole";

  WriteCounting();
  set = TokenSet::Open({folder + "/train-*"}, 10, 1000);
  ASSERT_TRUE(set.ok());
  usleep(20'000);  // the clock of file times is coarse
  std::fstream(folder + "/train-00000.bin", std::ios::in | std::ios::out | std::ios::binary).put('x');
  ExpectError(set->ReadSample(5, tokens), {"/train-00000.bin", "was written to after it was opened"});

  // A pair that is replaced, as the writer does it, stays what it was for those who have it open.
  WriteCounting();
  set = TokenSet::Open({folder + "/train-*"}, 10, 1000);
  ASSERT_TRUE(set.ok());
  WritePair(folder + "/train-00000", {7, 7, 7});
  ASSERT_TRUE(set->ReadSample(5, tokens).ok());
  EXPECT_EQ(tokens[0], 50);
}

}  // namespace
}  // namespace trefoil
