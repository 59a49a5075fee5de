#include "data/text/tokenize_records.h"

#include <fstream>
#include <map>
#include <set>

#include "data/records/record_set.h"
#include "data/text/conversation.h"
#include "runtime/random.h"
#include "tests/data/data_testing.h"

namespace trefoil {
namespace {

using enum RecordPart;

Tokenizer& SmallTokenizer() {
  static Tokenizer* tokenizer = [] {
    std::string text;
    for (int i = 0; i < 300; ++i) text += "Guten Tag sentence number " + std::to_string(i) + " user\nassistant\n";
    return new Tokenizer(*Tokenizer::Train(std::vector<std::string>{text}, 300));
  }();
  return *tokenizer;
}

RecordPlan PlanOrDie(const CorpusOptions& corpus, const RecordOptions& options) {
  const auto plan = PlanCorpus(corpus);
  EXPECT_TRUE(plan.ok()) << plan.status();
  auto records = PlanRecords(*plan, options, [](int64_t) {});
  EXPECT_TRUE(records.ok()) << records.status();
  return *std::move(records);
}

absl::Status PlanError(const std::string& path, const std::string& content, const RecordOptions& options) {
  std::ofstream(path) << content;
  const auto plan = PlanCorpus({.inputs = {path}});
  EXPECT_TRUE(plan.ok()) << plan.status();
  return PlanRecords(*plan, options, [](int64_t) {}).status();
}

CorpusCounts Write(const RecordPlan& plan, const std::string& folder, int shares) {
  EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  CorpusCounts sum;
  for (int share = 0; share < shares; ++share) {
    const auto counts =
        TokenizeRecordShare(FileSystem::Posix(), plan, folder, SmallTokenizer(), share, shares, [](int64_t) {});
    EXPECT_TRUE(counts.ok()) << counts.status();
    sum.documents += counts->documents;
    sum.text_bytes += counts->text_bytes;
    sum.train_tokens += counts->train_tokens;
    sum.held_out_tokens += counts->held_out_tokens;
    sum.train_files += counts->train_files;
    sum.held_out_files += counts->held_out_files;
  }
  return sum;
}

std::map<std::string, std::string> Contents(const std::string& folder) {
  std::map<std::string, std::string> contents;
  for (const std::string& path : Glob(folder + "/*"))
    contents[path.substr(folder.size())] = *ReadFile(FileSystem::Posix(), path);
  return contents;
}

// The texts of a part, in order.
std::vector<std::string> Texts(const RecordSet& records, size_t part) {
  std::vector<std::string> texts;
  for (int64_t i = 0; i < records.size(); ++i) texts.push_back(SmallTokenizer().Decode((*records.Read(i))[part]));
  return texts;
}

RecordSet OpenOrDie(const std::string& glob) {
  auto records = RecordSet::Open({glob});
  EXPECT_TRUE(records.ok()) << records.status();
  return *std::move(records);
}

// 3000 pairs; each source is there twice and each target about three times, in other pairs.
void WritePairs(const std::string& path) {
  std::ofstream file(path);
  for (int i = 0; i < 3000; ++i) {
    file << "{\"source\": \"Guten Tag " << i / 2 << "\", \"target\": \"sentence " << i * 7 % 1000 << "\"}\n";
  }
}

TEST(TokenizeRecords, HeldOutPairsShareNoTextWithTraining) {
  const std::string folder = TestFolder();
  WritePairs(folder + "/pairs.jsonl");
  const RecordPlan plan = PlanOrDie({.inputs = {folder + "/pairs.jsonl"}, .held_out = 0.3}, {});
  EXPECT_EQ(plan.description.parts, (std::vector<RecordPart>{kSource, kTarget}));
  EXPECT_EQ(plan.train + plan.held_out + plan.neither, 3000);
  EXPECT_NEAR(plan.train, 2100, 120);
  EXPECT_GT(plan.held_out, 10);
  EXPECT_GT(plan.neither, 500);
  const CorpusCounts counts = Write(plan, folder + "/out", 1);
  EXPECT_EQ(counts.documents, 3000);
  const RecordSet train = OpenOrDie(folder + "/out/train-*"), held_out = OpenOrDie(folder + "/out/held_out-*");
  EXPECT_EQ(train.size(), plan.train);
  EXPECT_EQ(held_out.size(), plan.held_out);
  EXPECT_TRUE(train.CheckAlike(held_out).ok());
  EXPECT_TRUE(train.CheckTokenizer(SmallTokenizer().checksum(), "t.model").ok());
  EXPECT_EQ(train.description().vocabulary, 300);
  for (const size_t part : {0, 1}) {
    const auto trained = Texts(train, part);
    const std::set<std::string> known(trained.begin(), trained.end());
    for (const std::string& text : Texts(held_out, part)) EXPECT_EQ(known.count(text), 0u) << text;
  }
  EXPECT_EQ(Texts(train, 0)[0].substr(0, 10), "Guten Tag ");
  EXPECT_EQ(Texts(train, 1)[0].substr(0, 9), "sentence ");
  const RecordPlan other = PlanOrDie({.inputs = {folder + "/pairs.jsonl"}, .held_out = 0.3, .seed = 2}, {});
  EXPECT_NE(other.training_texts, plan.training_texts);
  const RecordPlan all = PlanOrDie({.inputs = {folder + "/pairs.jsonl"}, .held_out = 0}, {});
  EXPECT_EQ(all.train, 3000);
  EXPECT_EQ(all.training_texts.size(), 2500u);
}

TEST(TokenizeRecords, SharesAndFilesDoNotMatter) {
  const std::string folder = TestFolder();
  WritePairs(folder + "/a.jsonl");
  WritePairs(folder + "/b.jsonl");
  const CorpusOptions options = {
      .inputs = {folder + "/*.jsonl"}, .held_out = 0.3, .shard_bytes = 40000, .file_tokens = 3000};
  const RecordPlan plan = PlanOrDie(options, {});
  const CorpusCounts one = Write(plan, folder + "/one", 1), three = Write(plan, folder + "/three", 3);
  EXPECT_EQ(one.train_tokens, three.train_tokens);
  EXPECT_EQ(one.documents, 6000);
  EXPECT_EQ(three.documents, 6000);
  const auto contents = Contents(folder + "/one");
  EXPECT_TRUE(contents == Contents(folder + "/three"));
  EXPECT_EQ(contents.count("/train-00003-001.json"), 1u);
  EXPECT_EQ(static_cast<int64_t>(contents.size()), 3 * (one.train_files + one.held_out_files));
  EXPECT_EQ(OpenOrDie(folder + "/one/train-*").size(), plan.train);
}

TEST(TokenizeRecords, ClassesByName) {
  const std::string folder = TestFolder();
  std::ofstream(folder + "/x.jsonl") << R"({"text": "number 1", "label": "so-so"})"
                                     << "\n\n"
                                     << R"({"text": "number 2", "label": "bad"})"
                                     << "\n"
                                     << R"({"text": "number 3", "label": "so-so"})"
                                     << "\n";
  const CorpusOptions corpus = {.inputs = {folder + "/x.jsonl"}, .held_out = 0};
  Write(PlanOrDie(corpus, {.kind = RecordKind::kLabels}), folder + "/out", 1);
  const RecordSet records = OpenOrDie(folder + "/out/train-*");
  EXPECT_EQ(records.description().labels, (std::vector<std::string>{"bad", "so-so"}));
  EXPECT_EQ(records.label_counts(), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ((*records.Read(0))[1], (std::vector<int32_t>{1}));
  EXPECT_EQ(Texts(records, 0)[2], "number 3");
  Write(PlanOrDie(corpus, {.kind = RecordKind::kLabels, .labels = {"so-so", "good", "bad"}}), folder + "/named", 1);
  const RecordSet named = OpenOrDie(folder + "/named/train-*");
  EXPECT_EQ(named.description().labels, (std::vector<std::string>{"so-so", "good", "bad"}));
  EXPECT_EQ(named.label_counts(), (std::vector<int64_t>{2, 0, 1}));
}

TEST(TokenizeRecords, ClassesByNumberValuesAndWords) {
  const std::string folder = TestFolder();
  const auto write = [&](const std::string& name, const std::string& content, const RecordOptions& options) {
    std::ofstream(folder + "/" + name + ".jsonl") << content;
    Write(PlanOrDie({.inputs = {folder + "/" + name + ".jsonl"}, .held_out = 0}, options), folder + "/" + name, 1);
    return OpenOrDie(folder + "/" + name + "/train-*");
  };
  const std::string numbers = R"({"text": "number 1", "label": 2})"
                              "\n"
                              R"({"text": "number 2", "label": 0})";
  EXPECT_EQ(write("numbers", numbers, {.kind = RecordKind::kLabels}).description().labels,
            (std::vector<std::string>{"0", "1", "2"}));
  const RecordSet named = write("named", numbers, {.kind = RecordKind::kLabels, .labels = {"a", "b", "c", "d"}});
  EXPECT_EQ(named.description().labels.size(), 4u);
  EXPECT_EQ((*named.Read(0))[1], (std::vector<int32_t>{2}));
  const RecordSet values =
      write("values", R"({"text": "number", "text_pair": "Tag", "label": -2.5})", {.kind = RecordKind::kLabels});
  EXPECT_EQ(ValueOf((*values.Read(0))[2]), -2.5f);
  EXPECT_EQ(Texts(values, 1)[0], "Tag");
  const RecordSet words = write("words", R"({"words": ["Xyz", "sentence", "number"], "label": ["name", null, "noun"]})",
                                {.kind = RecordKind::kLabels});
  EXPECT_EQ(Texts(words, 0)[0], "Xyz sentence number");
  const Record record = *words.Read(0);
  // The first token of each word has the word's label.
  std::string text;
  std::map<size_t, int32_t> labels;
  for (size_t t = 0; t < record[0].size(); ++t) {
    if (record[1][t] > 0) labels[text.size()] = record[1][t];
    text += SmallTokenizer().Decode({&record[0][t], 1});
  }
  EXPECT_EQ(labels, (std::map<size_t, int32_t>{{0, 1}, {12, 2}}));
}

TEST(TokenizeRecords, Conversations) {
  const std::string folder = TestFolder();
  std::ofstream(folder + "/x.jsonl")
      << R"({"messages": [{"role": "user", "content": "number 1"}, )"
      << R"({"role": "assistant", "content": "Tag"}, {"role": "user", "content": "2"}]})";
  const CorpusOptions corpus = {.inputs = {folder + "/x.jsonl"}, .held_out = 0};
  Write(PlanOrDie(corpus, {.kind = RecordKind::kConversations}), folder + "/out", 1);
  const RecordSet records = OpenOrDie(folder + "/out/train-*");
  const Record record = *records.Read(0);
  Tokenizer& tokenizer = SmallTokenizer();
  const int32_t end = tokenizer.end_of_text();
  std::vector<int32_t> expected, answers;
  for (const auto& [text, answer] : {std::pair("user\nnumber 1", 0), {"assistant\n", 0}, {"Tag", 1}, {"user\n2", 0}}) {
    const auto ids = tokenizer.Encode(text);
    expected.insert(expected.end(), ids.begin(), ids.end());
    answers.resize(expected.size(), answer);
    if (std::string(text) == "assistant\n") continue;
    expected.push_back(end);
    answers.push_back(answer);
  }
  EXPECT_EQ(record[0], expected);
  EXPECT_EQ(record[1], answers);
  // What a model is asked with is what it was trained on, up to the answer.
  std::vector<int32_t> asked, unused;
  AppendMessage(tokenizer, {.role = "user", .content = "number 1"}, &asked, &unused);
  AppendPrompt(tokenizer, &asked);
  EXPECT_TRUE(std::equal(asked.begin(), asked.end(), record[0].begin()));
  EXPECT_EQ(record[1][asked.size() - 1], 0);
  EXPECT_EQ(record[1][asked.size()], 1);
}

TEST(TokenizeRecords, SamplesTextsToTrainOn) {
  const std::string folder = TestFolder();
  WritePairs(folder + "/pairs.jsonl");
  const CorpusOptions corpus = {.inputs = {folder + "/pairs.jsonl"}, .held_out = 0.5};
  const RecordPlan plan = PlanOrDie(corpus, {.sample_bytes = 10000});
  int64_t bytes = 0;
  for (const std::string& text : plan.sample) {
    bytes += static_cast<int64_t>(text.size());
    EXPECT_EQ(text.find("Guten Tag "), 0u);
    EXPECT_NE(text.find("\nsentence "), std::string::npos);
    EXPECT_TRUE(std::binary_search(plan.training_texts.begin(), plan.training_texts.end(),
                                   RandomKey(corpus.seed, text.substr(0, text.find('\n')))));
  }
  EXPECT_GT(bytes, 3000);
  EXPECT_LE(bytes, 10000);
  EXPECT_TRUE(PlanOrDie(corpus, {}).sample.empty());
}

TEST(TokenizeRecords, MistakesHaveAPlace) {
  const std::string folder = TestFolder(), path = folder + "/x.jsonl";
  const RecordOptions labels = {.kind = RecordKind::kLabels};
  const std::string good = R"({"text": "a", "label": "x"})"
                           "\n";
  ExpectError(PlanError(path, good + "{", labels), {path + ": line 2: broken JSON"});
  ExpectError(PlanError(path, good + "\n" + R"({"text": "", "label": "x"})", labels),
              {path + ": line 3: field \"text\" is empty"});
  ExpectError(PlanError(path, good + R"({"text": "a", "label": 2.5})", labels),
              {path + ": line 2: is a record of text, value, but the first was of text, label", "3.0"});
  ExpectError(PlanError(path, good + R"({"text": "a", "label": 2})", labels),
              {path + ": line 2: label 2 is a number, but x was a name"});
  RecordOptions named = {.kind = RecordKind::kLabels, .labels = {"good", "bad"}};
  ExpectError(PlanError(path, R"({"text": "a", "label": "goood"})", named),
              {"line 1: label goood is none of good, bad; did you mean good?"});
  ExpectError(PlanError(path, R"({"text": "a", "label": 2})", named),
              {"line 1: label 2, but", "2 labels only: 0 to 1"});
  ExpectError(PlanError(path, R"({"text": "a", "label": 2.5})", named),
              {"labels: good,bad, but these are records of text, value, which have no classes"});
  ExpectError(PlanError(path, R"({"words": ["a"], "label": [null]})", labels), {"no token of any record has a label"});
  ExpectError(PlanError(folder + "/x.txt", "text", labels), {"/x.txt: not a .jsonl"});
}

}  // namespace
}  // namespace trefoil
