#include "data/evaluation/evaluation_task.h"

#include <gtest/gtest.h>

#include <fstream>

namespace trefoil {
namespace {

class EvaluationTaskTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = testing::TempDir() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
  absl::StatusOr<EvaluationTask> Read(const std::string& lines, const std::string& kind = "", int64_t limit = 0) const {
    return ReadEvaluationTask(kind + Write("x.jsonl", lines), limit);
  }
  // The message begins with the file.
  void ExpectRefused(const std::string& lines, const std::string& message, const std::string& kind = "") const {
    EXPECT_EQ(Read(lines, kind).status().message(), testing::TempDir() + "/x.jsonl" + message) << lines;
  }
};

constexpr char kChoice[] = R"({"context": "2 + 2 =", "choices": ["3", "four"], "answer": 1})"
                           "\n";

TEST_F(EvaluationTaskTest, TheFirstLineTellsTheKind) {
  const auto choices =
      Read(std::string(kChoice) + "\n" + R"({"context": "a", "choices": ["b", "c"], "answer": "0", "delimiter": ""})");
  ASSERT_TRUE(choices.ok()) << choices.status();
  EXPECT_EQ(choices->name, "x");
  EXPECT_EQ(choices->kind, EvaluationKind::kMultipleChoice);
  ASSERT_EQ(choices->examples.size(), 2u);
  EXPECT_EQ(choices->examples[0].right, 1);
  EXPECT_EQ(choices->examples[0].continuations[1].text, " four");
  EXPECT_EQ(choices->examples[0].continuations[1].answer, "four");
  EXPECT_EQ(choices->examples[1].place, choices->path + ": line 3");
  EXPECT_EQ(choices->examples[1].continuations[1].text, "c");

  const auto texts = Read(R"({"text": "a b", "id": 7})");
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(texts->kind, EvaluationKind::kPerplexity);

  for (const auto& words :
       {Read(R"({"text": "a b c"})", "last_word:"), Read("{\"kind\": \"last_word\"}\n{\"text\": \"a b c\"}")}) {
    ASSERT_TRUE(words.ok()) << words.status();
    EXPECT_EQ(words->kind, EvaluationKind::kLastWord);
    EXPECT_EQ(words->examples[0].continuations[0].context, "a b");
    EXPECT_EQ(words->examples[0].continuations[0].text, " c");
  }

  const auto classes = Read(R"({"kind": "classification", "labels": ["bad", "good"], "after": " It was"}
{"text": "Fine.", "label": "good"}
{"text": "Dull.", "label": 0})");
  ASSERT_TRUE(classes.ok()) << classes.status();
  EXPECT_EQ(classes->kind, EvaluationKind::kClassification);
  EXPECT_EQ(classes->examples[0].right, 1);
  EXPECT_EQ(classes->examples[1].right, 0);
  EXPECT_EQ(classes->examples[0].continuations[0].context, "Fine. It was");
  EXPECT_EQ(classes->examples[0].continuations[0].text, " bad");
}

TEST_F(EvaluationTaskTest, ATextFileIsADocument) {
  const std::string text = "one\n\n two\n";
  const auto task = ReadEvaluationTask(Write("book.txt", text), 0);
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(task->name, "book");
  EXPECT_EQ(task->examples[0].continuations[0].text, text);
  EXPECT_EQ(ReadEvaluationTask("last_word:" + task->path, 0).status().message(),
            task->path +
                ": last_word is of lines of JSON, in a file NAME.jsonl; a file of another name is a document, of kind "
                "perplexity");
}

TEST_F(EvaluationTaskTest, SeveralFilesAndNoMoreThanALimit) {
  const std::string a = Write("several_a.jsonl", std::string(kChoice) + kChoice + "no JSON, not read");
  const std::string b = Write("several_b.jsonl", "{\"text\": \"a\"}\n");
  const auto tasks = ReadEvaluationTasks(testing::TempDir() + "/several_*.jsonl,last_word:" + b, 2);
  ASSERT_TRUE(tasks.ok()) << tasks.status();
  ASSERT_EQ(tasks->size(), 3u);
  EXPECT_EQ((*tasks)[0].examples.size(), 2u);
  EXPECT_EQ((*tasks)[2].kind, EvaluationKind::kLastWord);
  EXPECT_FALSE(ReadEvaluationTasks(a + ",", 1).ok());
  EXPECT_FALSE(ReadEvaluationTasks(testing::TempDir() + "/none.jsonl", 0).ok());
}

TEST_F(EvaluationTaskTest, PublishedBenchmarksAreKnown) {
  const auto hellaswag =
      Read(R"({"activity_label": "Roofs", "ctx_a": "A man [header] sits [title] Ok", "ctx_b": "he IS on",)"
           R"( "endings": ["ripping [step] up.", "no"], "label": "1"})");
  ASSERT_TRUE(hellaswag.ok()) << hellaswag.status();
  EXPECT_EQ(hellaswag->examples[0].continuations[0].context, "Roofs: A man sits. Ok He is on");
  EXPECT_EQ(hellaswag->examples[0].continuations[0].text, " ripping up.");
  EXPECT_EQ(hellaswag->examples[0].right, 1);
  const auto arc =
      Read(R"({"id": 1, "question": "Why?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"})");
  ASSERT_TRUE(arc.ok()) << arc.status();
  EXPECT_EQ(arc->examples[0].continuations[1].context, "Question: Why?\nAnswer:");
  EXPECT_EQ(arc->examples[0].right, 1);
  const auto winogrande =
      Read(R"({"sentence": "Ann thanked _ for it.", "option1": "Eve", "option2": "Bo", "answer": "2"})");
  ASSERT_TRUE(winogrande.ok()) << winogrande.status();
  EXPECT_EQ(winogrande->examples[0].continuations[1].context, "Ann thanked Bo");
  EXPECT_EQ(winogrande->examples[0].continuations[1].text, " for it.");
  EXPECT_EQ(winogrande->examples[0].right, 1);
  ExpectRefused(
      R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 2})",
      ": line 1: field \"label\" is 2, must be a number from 0 to 1; PIQA has \"goal\", \"sol1\", \"sol2\", \"label\"");
}

TEST_F(EvaluationTaskTest, WhatIsWrongIsNamed) {
  const std::string takes =
      "; multiple_choice takes \"context\", \"choices\", \"answer\", and \"delimiter\" if it likes, or the fields of "
      "HellaSwag, "
      "ARC, PIQA or WinoGrande";
  ExpectRefused(std::string(kChoice) + R"({"context": "a", "choices": ["b", "c"]})",
                ": line 2: has no field \"answer\"" + takes);
  ExpectRefused(R"({"context": "a", "choices": ["b", "c"], "answer": 2})",
                ": line 1: field \"answer\" is 2, must be a number from 0 to 1" + takes);
  ExpectRefused(R"({"context": 3, "choices": ["b", "c"], "answer": 1})",
                ": line 1: field \"context\" is 3, must be a text" + takes);
  ExpectRefused(
      R"({"context": "", "choices": ["b", ""], "answer": 1})",
      ": line 1: field \"choices\" is [\"b\",\"\"], must be a list of at least 2 texts, none of them empty" + takes);
  ExpectRefused("{\"text\": \"a\"}\n{\"text\": \"\"}",
                ": line 2: field \"text\" is \"\", must be not empty; perplexity takes \"text\"");
  ExpectRefused(
      R"({"text": "a "})",
      ": line 1: field \"text\" is \"a \", must be a text that ends with a word, not with a space; last_word takes "
      "\"text\"",
      "last_word:");
  ExpectRefused(
      R"({"txt": "a"})",
      ": line 1: which kind of task it is cannot be told: a line with \"choices\" is multiple_choice, one with "
      "\"text\" perplexity; or write KIND:FILE, with a KIND of perplexity, multiple_choice, last_word, classification");
  ExpectRefused(
      R"({"text": "a", "label": "b"})",
      ": line 1: the labels are not known: begin the file with {\"kind\": \"classification\", \"labels\": [\"bad\", "
      "\"good\"]}");
  const std::string header =
      "; a first line with \"kind\" has no others than \"kind\", and of classification \"labels\" and \"after\"";
  ExpectRefused(
      R"({"kind": "quiz"})",
      ": line 1: field \"kind\" is \"quiz\", must be one of perplexity, multiple_choice, last_word, classification" +
          header);
  ExpectRefused(R"({"kind": "perplexity", "labels": ["a", "b"]})",
                ": line 1: field \"labels\" is [\"a\",\"b\"], must be left out" + header);
  ExpectRefused(R"({"kind": "perplexity"})",
                ": line 1: field \"kind\" is \"perplexity\", must be what the command line says: "
                "last_word" +
                    header,
                "last_word:");
  ExpectRefused(
      "{\"kind\": \"classification\", \"labels\": [\"a\", \"b\"]}\n{\"text\": \"t\", \"label\": \"c\"}",
      ": line 2: field \"label\" is \"c\", must be one of the labels of the first line, [\"a\",\"b\"]; classification "
      "takes \"text\" and \"label\"");
  ExpectRefused("[1]", ": line 1: is no JSON object");
  ExpectRefused("{\"kind\": \"perplexity\"}\n", " has no example");
  EXPECT_TRUE(Read("{\"text\": \"a\"").status().message().find(": line 1: broken JSON near column") !=
              std::string::npos);
  EXPECT_EQ(
      ReadEvaluationTask("quiz:x.jsonl", 0).status().message(),
      "quiz:x.jsonl: quiz is no kind of task; the kinds are perplexity, multiple_choice, last_word, classification");
}

TEST(EvaluationText, LengthsAreThoseOfPython) {
  EXPECT_EQ(Characters("Ärger 東京"), 8);
  EXPECT_EQ(Words(""), 1);  // len(re.split(r"\s+", ""))
  EXPECT_EQ(Words("a b\n\n c"), 3);
  EXPECT_EQ(Words(" a\u00a0b\u3000"), 4);
  EXPECT_EQ(SpaceLength("\u2003x"), 3u);
  EXPECT_EQ(SpaceLength("\u200bx"), 0u);
}

}  // namespace
}  // namespace trefoil
