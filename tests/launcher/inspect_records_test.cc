#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "data/tokens/tokenizer.h"
#include "tests/data/records/record_testing.h"
#include "tests/launcher/inspect_testing.h"

namespace trefoil {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Texts of two classes, two records in each of two files.
class InspectRecordsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = TestFolder();
    std::string text;
    for (int i = 0; i < 500; ++i) text += "a good film and a bad one\n";
    auto tokenizer = Tokenizer::Train(std::vector<std::string>{text}, 280);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    ASSERT_TRUE(tokenizer->Save(FileSystem::Posix(), folder_).ok());
    tokenizer_ = std::make_unique<Tokenizer>(*std::move(tokenizer));
    const std::vector<int32_t> good = tokenizer_->Encode("a good film"), bad = tokenizer_->Encode("a bad\none");
    WriteRecords(folder_ + "/train-00000", Described({RecordPart::kText, RecordPart::kLabel}), {{good, {1}}, {bad, {0}}});
    WriteRecords(folder_ + "/train-00001", Described({RecordPart::kText, RecordPart::kLabel}), {{good, {1}}, {good, {1}}});
  }
  RecordDescription Described(std::vector<RecordPart> parts) const {
    return {.parts = std::move(parts), .labels = {"bad", "good"}, .vocabulary = 280, .tokenizer = tokenizer_->checksum()};
  }
  std::string folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(InspectRecordsTest, SaysPartsLabelsLengthsAndSome) {
  for (const std::string& path : {folder_, folder_ + "/train-*"}) {
    const Seen seen = Look({.path = path, .verify = true});
    ASSERT_TRUE(seen.status.ok()) << seen.status;
    for (const char* part : {"records      4 in 2 pairs of files, ", "parts        text, label\n", "text         of ",
                             "labels       0    bad                  1\n             1    good                 3\n",
                             "tokenizer.model, vocabulary 280\n",
                             "record 0     text: \"a good film\"\n             label: 1 good\n"
                             "record 1     text: \"a bad\\none\"\n             label: 0 bad\nrecord 2     text: ",
                             "whole        every record was read; the ids of texts are in [0, 280)\n"}) {
      EXPECT_THAT(seen.text, HasSubstr(part)) << path;
    }
    EXPECT_THAT(seen.text, Not(HasSubstr("record 3")));
  }
  const Seen last = Look({.path = folder_ + "/train-00000", .document = 1});
  ASSERT_TRUE(last.status.ok()) << last.status;
  EXPECT_THAT(last.text, HasSubstr("records      2 in " + folder_ + "/train-00000.bin, .idx, .json\n"));
  EXPECT_THAT(last.text, HasSubstr("record 1     text: \"a bad\\none\"\n"));
  EXPECT_THAT(last.text, Not(HasSubstr("record 0")));
  EXPECT_THAT(Look({.path = folder_, .document = 4}).status.message(),
              HasSubstr("--document: 4, must be in [0, 4), the records there are; nearest legal: 3"));
}

TEST_F(InspectRecordsTest, SaysEachKindOfPart) {
  const std::string folder = folder_ + "/parts";
  ASSERT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  const auto look = [&](const std::vector<RecordPart>& parts, const Record& record) {
    WriteRecords(folder + "/train-00000", Described(parts), {record});
    const Seen seen = Look({.path = folder + "/train-00000", .tokenizer = folder_ + "/tokenizer.model"});
    EXPECT_TRUE(seen.status.ok()) << seen.status;
    return seen.text;
  };
  EXPECT_THAT(look({RecordPart::kText, RecordPart::kTokenLabels}, {{40, 41, 42}, {0, 2, 1}}),
              HasSubstr("token_labels: token 1: 1 good, token 2: 0 bad\n"));
  EXPECT_THAT(look({RecordPart::kText, RecordPart::kTextPair, RecordPart::kValue}, {{40}, {41}, ValueIds(3.5f)}),
              HasSubstr("             text_pair: \""));
  EXPECT_THAT(look({RecordPart::kText, RecordPart::kValue}, {{40}, ValueIds(3.5f)}), HasSubstr("value: 3.5\n"));
  EXPECT_THAT(look({RecordPart::kConversation, RecordPart::kAnswers}, {{40, 41, 42}, {0, 1, 1}}),
              HasSubstr("answers: 2 of 3 tokens are to be learnt\n"));
}

TEST_F(InspectRecordsTest, ShowsIdsWithoutTheirTokenizer) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "quick brown foxes jump over all of the very lazy dogs\n";
  auto other = Tokenizer::Train(std::vector<std::string>{text}, 280);
  ASSERT_TRUE(other.ok()) << other.status();
  ASSERT_TRUE(other->Save(FileSystem::Posix(), folder_).ok());
  const Seen seen = Look({.path = folder_});
  ASSERT_TRUE(seen.status.ok()) << seen.status;
  EXPECT_THAT(seen.text, HasSubstr("             not the one that wrote these records ("));
  EXPECT_THAT(seen.text, Not(HasSubstr("text: \"")));
}

TEST_F(InspectRecordsTest, NamesWhatIsDamaged) {
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), folder_ + "/train-00001.json",
                                  "{\"parts\": [\"text\", \"lable\"]").ok());
  const absl::Status json = Look({.path = folder_}).status;
  EXPECT_THAT(json.message(), HasSubstr(folder_ + "/train-00001.json")) << json;
  // A label that no class has.
  WriteRecords(folder_ + "/train-00001", Described({RecordPart::kText, RecordPart::kLabel}), {{{40}, {2}}});
  const absl::Status label = Look({.path = folder_}).status;
  EXPECT_THAT(label.message(), HasSubstr(folder_ + "/train-00001.bin: record 0")) << label;
}

}  // namespace
}  // namespace trefoil
