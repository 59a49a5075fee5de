#include "data/text/record_line.h"

#include "tests/data/data_testing.h"

namespace trefoil {
namespace {

using enum RecordPart;
using Parts = std::vector<RecordPart>;

RecordLine Parsed(const std::string& json, RecordKind kind) {
  auto record = ParseRecordLine(json, kind);
  EXPECT_TRUE(record.ok()) << record.status();
  return *std::move(record);
}

TEST(RecordLine, Pairs) {
  const RecordLine record = Parsed(R"({"id": 7, "source": "Guten \"Tag\"", "target": "Good day"})", RecordKind::kPairs);
  EXPECT_EQ(record.text, "Guten \"Tag\"");
  EXPECT_EQ(record.text_pair, "Good day");
  EXPECT_EQ(record.parts(), (Parts{kSource, kTarget}));
}

TEST(RecordLine, Labels) {
  const auto parse = [](const std::string& json) { return Parsed(json, RecordKind::kLabels); };
  RecordLine record = parse(R"({"text": "fine", "label": "good"})");
  EXPECT_EQ(Text(*record.label), "good");
  EXPECT_EQ(record.parts(), (Parts{kText, kLabel}));
  record = parse(R"({"text": "fine", "text_pair": "film", "label": 3})");
  EXPECT_EQ(std::get<int64_t>(*record.label), 3);
  EXPECT_EQ(record.parts(), (Parts{kText, kTextPair, kLabel}));
  record = parse(R"({"text": "fine", "text_pair": "film", "label": 3.0})");
  EXPECT_EQ(*record.value, 3.0f);
  EXPECT_EQ(record.parts(), (Parts{kText, kTextPair, kValue}));
  record = parse(R"({"words": ["Ann", "sings", "."], "label": ["name", null, 2]})");
  EXPECT_EQ(record.text, "Ann sings .");
  EXPECT_EQ(record.word_labels.size(), 3u);
  EXPECT_EQ(Text(*record.word_labels[0]), "name");
  EXPECT_FALSE(record.word_labels[1]);
  EXPECT_EQ(Text(*record.word_labels[2]), "2");
  EXPECT_EQ(record.parts(), (Parts{kText, kTokenLabels}));
}

TEST(RecordLine, Conversations) {
  const RecordLine record = Parsed(R"({"messages": [{"role": "system", "content": "Be brief."},
      {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]})",
                                   RecordKind::kConversations);
  ASSERT_EQ(record.messages.size(), 3u);
  EXPECT_EQ(record.messages[2].role, "assistant");
  EXPECT_EQ(record.messages[2].content, "4.");
  EXPECT_EQ(record.text, "2 + 2?");
  EXPECT_EQ(record.parts(), (Parts{kConversation, kAnswers}));
}

TEST(RecordLine, SaysWhatIsWrong) {
  const auto pairs = [](const std::string& json) { return ParseRecordLine(json, RecordKind::kPairs).status(); };
  ExpectError(pairs("{\"source\""), {"broken JSON near column 10: syntax error"});
  ExpectError(pairs("[1, 2]"), {"is [1,2]; a line is a JSON object"});
  ExpectError(pairs(R"({"target": "x"})"), {"has no field \"source\""});
  ExpectError(pairs(R"({"source": "x", "target": 3})"), {"field \"target\" is 3; it is a text"});
  ExpectError(pairs(R"({"source": "", "target": "x"})"), {"field \"source\" is empty"});
  ExpectError(pairs("{\"source\": [\"" + std::string(500, 'x') + "\"]}"), {"field \"source\" is [\"xxxx", "xxx ...;"});
  const auto labels = [](const std::string& json) { return ParseRecordLine(json, RecordKind::kLabels).status(); };
  ExpectError(labels(R"({"text": "x"})"), {"has no field \"label\""});
  ExpectError(labels(R"({"text": "x", "label": null})"),
              {"field \"label\" has null; a class is a name or a whole number"});
  ExpectError(labels(R"({"text": "x", "label": -1})"), {"field \"label\" has class -1", "[0, 65536)"});
  ExpectError(labels(R"({"text": "x", "label": 1e300})"), {"field \"label\" is 1e+300", "finite"});
  ExpectError(labels(R"({"text": "x", "label": ["a"]})"), {"needs a list \"words\""});
  ExpectError(labels(R"({"words": [], "label": []})"), {"field \"words\" is []"});
  ExpectError(labels(R"({"words": ["a", "b"], "label": ["x"]})"), {"a list as long, of 2"});
  ExpectError(labels(R"({"words": ["a", ""], "label": ["x", "y"]})"), {"field \"words\" has \"\""});
  const auto chats = [](const std::string& json) { return ParseRecordLine(json, RecordKind::kConversations).status(); };
  ExpectError(chats("{}"), {"field \"messages\" is null"});
  ExpectError(chats(R"({"messages": ["hello"]})"), {"message 1 is \"hello\"; it is an object"});
  ExpectError(chats(R"({"messages": [{"role": "user"}]})"), {"message 1 has no field \"content\""});
  ExpectError(chats(R"({"messages": [{"role": "users", "content": "x"}]})"),
              {"message 1 has role \"users\"; roles are system, user, assistant; did you mean user?"});
  ExpectError(chats(R"({"messages": [{"role": "user", "content": "x"}]})"), {"none of role assistant"});
}

TEST(RecordLine, KindsHaveNames) {
  for (const RecordKind kind : {RecordKind::kPairs, RecordKind::kLabels, RecordKind::kConversations}) {
    EXPECT_EQ(*RecordKindOf(Name(kind), "--records"), kind);
  }
  ExpectError(RecordKindOf("pair", "--records").status(),
              {"--records: pair is none of pairs, labels, conversations; did you mean pairs?"});
}

}  // namespace
}  // namespace trefoil
