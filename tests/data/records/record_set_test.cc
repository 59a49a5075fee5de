#include "data/records/record_set.h"

#include <limits>

#include "tests/data/records/record_testing.h"

namespace trefoil {
namespace {

using enum RecordPart;

const RecordDescription kReviews = {
    .parts = {kText, kLabel}, .labels = {"bad", "good", "so-so"}, .vocabulary = 100, .tokenizer = 0x0f2e3d4c};

TEST(RecordDescription, GoesToJsonAndBack) {
  EXPECT_EQ(ToJson(kReviews),
            "{\"parts\":[\"text\",\"label\"],\"labels\":[\"bad\",\"good\",\"so-so\"],\"vocabulary\":100,"
            "\"tokenizer\":\"0f2e3d4c\"}\n");
  const auto parsed = ParseRecordDescription(ToJson(kReviews), "x.json");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, kReviews);
  EXPECT_EQ(kReviews.Find(kLabel), 1);
  EXPECT_EQ(kReviews.Find(kValue), -1);
  const RecordDescription pairs = {.parts = {kSource, kTarget}, .vocabulary = 70000, .tokenizer = 0xffffffff};
  EXPECT_EQ(*ParseRecordDescription(ToJson(pairs), "x.json"), pairs);
}

TEST(RecordDescription, SaysWhatIsWrong) {
  const auto parse = [](const char* json) { return ParseRecordDescription(json, "x.json").status(); };
  ExpectError(parse("[1]"), {"x.json: not a JSON object", "trefoil tokenize --records"});
  ExpectError(parse("{"), {"x.json: not a JSON object"});
  ExpectError(parse("{}"), {"field \"parts\" is null"});
  ExpectError(parse(R"({"parts": []})"), {"field \"parts\" is empty"});
  ExpectError(parse(R"({"parts": ["text", 3]})"), {"field \"parts\" has 3"});
  ExpectError(parse(R"({"parts": ["texts"]})"), {"part \"texts\" is none of source, target", "did you mean text?"});
  ExpectError(parse(R"({"parts": ["text", "text"]})"), {"part \"text\" is there twice"});
  ExpectError(parse(R"({"parts": ["text", "label"]})"), {"field \"labels\" is null"});
  ExpectError(parse(R"({"parts": ["text", "label"], "labels": []})"), {"field \"labels\" is empty"});
  ExpectError(parse(R"({"parts": ["text", "label"], "labels": ["a", "a"]})"), {"\"labels\" has a name twice"});
  ExpectError(parse(R"({"parts": ["text"], "vocabulary": 0})"), {"field \"vocabulary\" is 0"});
  ExpectError(parse(R"({"parts": ["text"], "vocabulary": 9, "tokenizer": "xyz"})"), {"field \"tokenizer\" is \"xyz\""});
}

TEST(RecordDescription, ValuesAreBytes) {
  EXPECT_EQ(ValueIds(1.0f), (std::vector<int32_t>{0, 0, 0x80, 0x3f}));
  for (const float value : {0.0f, -2.5f, 3.1415927f, 1e-30f}) EXPECT_EQ(ValueOf(ValueIds(value)), value);
  EXPECT_EQ((RecordDescription{.parts = {kText, kValue}, .vocabulary = 10}).StoredVocabulary(), 256);
}

TEST(RecordSet, ReadsRecordsOverFiles) {
  const std::string folder = TestFolder();
  const std::vector<Record> records = {{{1, 2, 3}, {0}}, {{4}, {2}}, {{99, 98}, {1}}, {{5, 6, 7, 8}, {2}}};
  WriteRecords(folder + "/train-00000", kReviews, {records[0], records[1], records[2]});
  WriteRecords(folder + "/train-00001", kReviews, {records[3]});
  const RecordSet set = OpenRecords({folder + "/train-*"});
  ASSERT_EQ(set.size(), 4);
  EXPECT_EQ(set.description(), kReviews);
  EXPECT_EQ(set.parts(), 2);
  EXPECT_EQ(set.label_counts(), (std::vector<int64_t>{1, 1, 2}));
  EXPECT_EQ(set.files().size(), 2u);
  for (const int64_t i : {3, 0, 2, 1}) {
    const auto record = set.Read(i);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(*record, records[i]);
    EXPECT_EQ(set.Length(i, 0), static_cast<int64_t>(records[i][0].size()));
    EXPECT_EQ(set.Length(i, 1), 1);
  }
}

TEST(RecordSet, LabelsOfTokensAndValues) {
  const std::string folder = TestFolder();
  const RecordDescription tags = {.parts = {kText, kTokenLabels}, .labels = {"noun", "verb"}, .vocabulary = 100};
  WriteRecords(folder + "/tags", tags, {{{7, 8, 9}, {0, 2, 1}}, {{3}, {2}}});
  EXPECT_EQ(OpenRecords({folder + "/tags"}).label_counts(), (std::vector<int64_t>{1, 2}));
  WriteRecords(folder + "/short", tags, {{{7, 8, 9}, {0, 2}}});
  ExpectError(RecordSet::Open({folder + "/short"}).status(),
              {"/short.bin: record 0: its token_labels has 2 ids; it is to have 3"});
  const RecordDescription scores = {.parts = {kText, kTextPair, kValue}, .vocabulary = 100};
  WriteRecords(folder + "/scores", scores, {{{7}, {8}, ValueIds(2.5f)}});
  EXPECT_EQ(ValueOf((*OpenRecords({folder + "/scores"}).Read(0))[2]), 2.5f);
  WriteRecords(folder + "/infinite", scores, {{{7}, {8}, ValueIds(std::numeric_limits<float>::infinity())}});
  ExpectError(RecordSet::Open({folder + "/infinite"}).status(), {"its value is inf", "finite"});
  const RecordDescription chat = {.parts = {kConversation, kAnswers}, .vocabulary = 100};
  WriteRecords(folder + "/flags", chat, {{{7, 8}, {0, 1}}, {{7}, {1}}});
  ExpectError(RecordSet::Open({folder + "/flags"}).status(), {"record 1: its conversation has 1 tokens; at least 2"});
}

TEST(RecordSet, SaysWhatIsWrongWithFiles) {
  const std::string folder = TestFolder();
  const auto open = [&](const char* name) { return RecordSet::Open({folder + name}).status(); };
  WriteDocuments(folder + "/plain", {{1, 2, 3}});
  ExpectError(open("/plain"), {"/plain.json: missing", "trefoil tokenize --records"});
  ExpectError(open("/nothing"), {"/nothing.idx: missing"});
  WriteRecords(folder + "/odd", kReviews, {{{1, 2}, {0}}, {{3}}});
  ExpectError(open("/odd"), {"/odd.idx: 3 documents; a record has 2 of them (text, label)"});
  WriteRecords(folder + "/empty", kReviews, {{{1, 2}, {0}}, {{}, {1}}});
  ExpectError(open("/empty"), {"/empty.bin: record 1: its text has 0 tokens"});
  WriteRecords(folder + "/range", kReviews, {{{1}, {0}}, {{1}, {3}}});
  ExpectError(open("/range"), {"/range.bin: record 1: its label has id 3; with 3 labels ids are in [0, 3)"});
  WriteRecords(folder + "/two", kReviews, {{{1}, {0, 1}}});
  ExpectError(open("/two"), {"its label has 2 ids; it is to have 1"});
  // Read finds what opening does not look at.
  RecordDescription small = kReviews;
  WriteRecords(folder + "/large", kReviews, {{{1, 60}, {0}}});
  small.vocabulary = 50;
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), folder + "/large.json", ToJson(small)).ok());
  ExpectError(OpenRecords({folder + "/large"}).Read(0).status(), {"its text has id 60; ids are in [0, 50)"});
}

TEST(RecordSet, DescriptionsAreAlike) {
  const std::string folder = TestFolder();
  WriteRecords(folder + "/train-0", kReviews, {{{1}, {0}}});
  RecordDescription other = kReviews;
  other.labels = {"good", "bad", "so-so"};
  WriteRecords(folder + "/train-1", other, {{{1}, {0}}});
  ExpectError(RecordSet::Open({folder + "/train-*"}).status(),
              {"/train-1.json: labels good, bad, so-so, not bad, good, so-so as in ", "/train-0.json"});
  const RecordSet first = OpenRecords({folder + "/train-0"}), second = OpenRecords({folder + "/train-1"});
  EXPECT_TRUE(first.CheckAlike(first).ok());
  ExpectError(first.CheckAlike(second), {"/train-1: labels good, bad", "as in ", "/train-0"});
  EXPECT_TRUE(first.CheckParts({kText, kLabel}, "classification").ok());
  ExpectError(first.CheckParts({kSource, kTarget}, "translation"),
              {"/train-0: records of text, label; translation needs source, target"});
  EXPECT_TRUE(first.CheckTokenizer(0x0f2e3d4c, "t.model").ok());
  ExpectError(first.CheckTokenizer(7, "t.model"), {"written with tokenizer 0f2e3d4c, but t.model is 00000007"});
}

}  // namespace
}  // namespace trefoil
