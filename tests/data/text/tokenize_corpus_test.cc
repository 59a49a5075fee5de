#include "data/text/tokenize_corpus.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <random>
#include <set>

#include "data/tokens/token_file.h"
#include "runtime/files/file.h"

namespace trefoil {
namespace {

std::string Folder(const std::string& name) {
  const std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
                             std::to_string(getpid()) + "/" + name;
  EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  return folder;
}

std::string Text(size_t bytes, unsigned seed) {
  const char* words[] = {"Elizabeth", "walked", "to", "the", "ball", "and", "Mr.", "Darcy", "was", "proud"};
  std::minstd_rand random(seed);
  std::string text;
  while (text.size() < bytes) {
    text += words[random() % 10];
    text += random() % 10 == 0 ? "\n" : random() % 50 == 0 ? "\n\n" : " ";
  }
  return text;
}

// Two novels and forty short documents.
CorpusOptions WriteCorpus(const std::string& folder) {
  std::ofstream(folder + "/a.txt") << Text(60000, 1);
  std::ofstream(folder + "/b.txt") << Text(40000, 2);
  std::ofstream lines(folder + "/c.jsonl");
  for (int i = 0; i < 40; ++i) lines << "{\"text\": \"Document number " << i << " was proud of the ball.\"}\n";
  CorpusOptions options;
  options.inputs = {folder + "/*.txt|*.jsonl"};
  options.held_out = 0.1;
  return options;
}

CorpusPlan PlanOrDie(const CorpusOptions& options) {
  auto plan = PlanCorpus(options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

Tokenizer& SmallTokenizer() {
  static Tokenizer* tokenizer = new Tokenizer(
      *Tokenizer::Train(std::vector<std::string>{Text(20000, 3) + " Document number 0123456789 of"}, 300));
  return *tokenizer;
}

CorpusCounts Tokenize(const CorpusPlan& plan, const std::string& folder, int shares) {
  CorpusCounts sum;
  int64_t progress = 0;
  for (int share = 0; share < shares; ++share) {
    auto counts = TokenizeShare(FileSystem::Posix(), plan, folder, SmallTokenizer(), share, shares,
                                [&](int64_t bytes) { progress += bytes; });
    EXPECT_TRUE(counts.ok()) << counts.status();
    sum.documents += counts->documents;
    sum.text_bytes += counts->text_bytes;
    sum.train_tokens += counts->train_tokens;
    sum.held_out_tokens += counts->held_out_tokens;
    sum.train_files += counts->train_files;
    sum.held_out_files += counts->held_out_files;
  }
  EXPECT_EQ(progress, plan.bytes);
  return sum;
}

// Name -> content of all files in a folder.
std::map<std::string, std::string> Contents(const std::string& folder) {
  std::map<std::string, std::string> contents;
  for (const std::string& path : Glob(folder + "/*")) {
    contents[path.substr(folder.size() + 1)] = *ReadFile(FileSystem::Posix(), path);
  }
  return contents;
}

std::vector<int32_t> Tokens(const std::string& pattern) {
  std::vector<int32_t> all;
  std::set<std::string> prefixes;  // in the order of the loader
  for (const std::string& path : Glob(pattern + ".idx")) prefixes.insert(path.substr(0, path.size() - 4));
  for (const std::string& prefix : prefixes) {
    auto file = TokenFile::Open(prefix);
    EXPECT_TRUE(file.ok()) << file.status();
    std::vector<int32_t> ids(file->tokens());
    EXPECT_TRUE(file->Read(0, ids).ok());
    all.insert(all.end(), ids.begin(), ids.end());
  }
  return all;
}

TEST(TokenizeCorpus, WithoutHeldOutTheTokensAreTheText) {
  const std::string in = Folder("in"), out = Folder("out");
  CorpusOptions options = WriteCorpus(in);
  options.held_out = 0;
  const CorpusCounts counts = Tokenize(PlanOrDie(options), out, 1);
  std::string expected = Text(60000, 1) + Text(40000, 2);
  for (int i = 0; i < 40; ++i) expected += "Document number " + std::to_string(i) + " was proud of the ball.";
  const std::vector<int32_t> ids = Tokens(out + "/train-*");
  EXPECT_EQ(SmallTokenizer().Decode(ids), expected);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), SmallTokenizer().end_of_text()), 42);
  EXPECT_EQ(ids.back(), SmallTokenizer().end_of_text());
  EXPECT_EQ(counts.documents, 42);
  EXPECT_EQ(counts.text_bytes, static_cast<int64_t>(expected.size()));
  EXPECT_EQ(counts.train_tokens, static_cast<int64_t>(ids.size()));
  EXPECT_EQ(counts.held_out_tokens, 0);
  EXPECT_TRUE(Glob(out + "/held_out*").empty());
  auto file = TokenFile::Open(out + "/train-00000");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->documents(), 42);
}

TEST(TokenizeCorpus, TheFilesDoNotDependOnTheNumberOfShares) {
  const std::string in = Folder("in");
  CorpusOptions options = WriteCorpus(in);
  options.shard_bytes = 9000;
  const CorpusPlan plan = PlanOrDie(options);
  EXPECT_GT(plan.shard_count(), 10);
  std::map<std::string, std::string> reference;
  for (int shares : {1, 2, 3, 50}) {
    const std::string out = Folder("out" + std::to_string(shares));
    const CorpusCounts counts = Tokenize(plan, out, shares);
    const auto contents = Contents(out);
    EXPECT_EQ(static_cast<int64_t>(contents.size()), 2 * (counts.train_files + counts.held_out_files));
    if (reference.empty()) reference = contents;
    EXPECT_TRUE(contents == reference) << shares;
    EXPECT_EQ(counts.documents, 42 + 6 + 4);  // the novels are cut into 7 and 5 slices
  }
  EXPECT_TRUE(reference.count("train-00000.idx"));
  EXPECT_TRUE(reference.count("held_out-00000.bin"));
}

TEST(TokenizeCorpus, HeldOutIsTheShareAskedForAndTheRestIsTrained) {
  const std::string in = Folder("in"), out = Folder("out");
  CorpusOptions options = WriteCorpus(in);
  const CorpusPlan plan = PlanOrDie(options);
  EXPECT_EQ(plan.block_bytes, 1024);
  const CorpusCounts counts = Tokenize(plan, out, 1);
  const double share = static_cast<double>(counts.held_out_tokens) / (counts.held_out_tokens + counts.train_tokens);
  EXPECT_NEAR(share, 0.1, 0.02);
  const std::string train = SmallTokenizer().Decode(Tokens(out + "/train-*"));
  const std::string held_out = SmallTokenizer().Decode(Tokens(out + "/held_out-*"));
  EXPECT_EQ(static_cast<int64_t>(train.size() + held_out.size()), counts.text_bytes);
  // At a tenth no two neighbouring blocks are held out, so each is a document of its own.
  int64_t held_out_blocks = 0;
  for (size_t i = 0; i < plan.slices.size(); ++i) {
    int64_t block = 0;
    ASSERT_TRUE(ReadSlice(plan.slices[i], plan.block_bytes, /*any_bytes=*/false, [&](const TextBlock&) {
                  held_out_blocks += plan.IsHeldOut(static_cast<int64_t>(i), block++);
                  return absl::OkStatus();
                }).ok());
  }
  const std::vector<int32_t> held_out_ids = Tokens(out + "/held_out-*");
  EXPECT_EQ(std::count(held_out_ids.begin(), held_out_ids.end(), SmallTokenizer().end_of_text()), held_out_blocks);
  // Each document of the .jsonl is on one side, whole.
  int held_out_lines = 0;
  for (int i = 0; i < 40; ++i) {
    const std::string text = "Document number " + std::to_string(i) + " was proud of the ball.";
    const bool in_train = train.find(text) != std::string::npos, in_held_out = held_out.find(text) != std::string::npos;
    EXPECT_NE(in_train, in_held_out) << text;
    held_out_lines += in_held_out;
  }
  EXPECT_EQ(held_out_lines, 4);
}

TEST(TokenizeCorpus, TheChoiceDependsOnTheSeedAndIsSpread) {
  const std::string in = Folder("in");
  CorpusOptions options = WriteCorpus(in);
  CorpusPlan plan = PlanOrDie(options);
  int differs = 0, first = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    plan.options.seed = seed;
    int held = 0;
    for (int64_t b = 0; b < 1000; ++b) held += plan.IsHeldOut(0, b);
    EXPECT_NEAR(held, 100, 1);
    first += plan.IsHeldOut(0, 0);
    differs += plan.IsHeldOut(0, 5) != plan.IsHeldOut(1, 5);
  }
  EXPECT_NEAR(first, 20, 12);  // a file of one block is held out with probability 0.1
  EXPECT_GT(differs, 10);
}

TEST(TokenizeCorpus, LargeShardsGoOnInFurtherFiles) {
  const std::string in = Folder("in"), out = Folder("out"), one = Folder("one");
  CorpusOptions options = WriteCorpus(in);
  Tokenize(PlanOrDie(options), one, 1);
  options.file_tokens = 5000;
  Tokenize(PlanOrDie(options), out, 1);
  EXPECT_EQ(Glob(one + "/train-*.idx").size(), 1u);
  EXPECT_GT(Glob(out + "/train-00000-*.idx").size(), 2u);
  EXPECT_EQ(Tokens(out + "/train-*"), Tokens(one + "/train-*"));
}

TEST(TokenizeCorpus, TheSampleIsBoundedAndLeavesOutWhatIsHeldOut) {
  const std::string in = Folder("in"), out = Folder("out");
  const CorpusPlan plan = PlanOrDie(WriteCorpus(in));
  Tokenize(plan, out, 1);
  const std::string train = SmallTokenizer().Decode(Tokens(out + "/train-*"));
  auto all = SampleTexts(plan, 1 << 20, [](int64_t) {});
  ASSERT_TRUE(all.ok());
  size_t bytes = 0;
  for (const std::string& text : *all) bytes += text.size();
  EXPECT_EQ(bytes, train.size());
  auto some = SampleTexts(plan, 20000, [](int64_t) {});
  ASSERT_TRUE(some.ok());
  bytes = 0;
  for (const std::string& text : *some) {
    bytes += text.size();
    EXPECT_NE(train.find(text), std::string::npos);
  }
  EXPECT_LE(bytes, 20000u);
  EXPECT_GT(bytes, 5000u);
}

TEST(TokenizeCorpus, BadOptionsAreExplained) {
  const std::string in = Folder("in");
  std::ofstream(in + "/a.txt").flush();
  auto message = [](const CorpusOptions& options) { return std::string(PlanCorpus(options).status().message()); };
  CorpusOptions options;
  options.inputs = {in + "/*.txt"};
  EXPECT_NE(message(options).find("zero-length corpus"), std::string::npos) << message(options);
  EXPECT_NE(message(options).find("a.txt"), std::string::npos);
  options = WriteCorpus(in);
  options.held_out = 0.6;
  EXPECT_NE(message(options).find("held_out: 0.6 is outside [0, 0.5]; nearest: 0.5"), std::string::npos)
      << message(options);
  options.held_out = 0.1;
  options.inputs = {in + "/*.csv"};
  EXPECT_NE(message(options).find("/*.csv"), std::string::npos) << message(options);
}

TEST(TokenizeCorpus, ABrokenInputEndsTheWorkAndLeavesNoHalfFiles) {
  const std::string in = Folder("in"), out = Folder("out");
  CorpusOptions options = WriteCorpus(in);
  std::ofstream(in + "/c.jsonl", std::ios::app) << "{broken\n";
  auto counts = TokenizeShare(FileSystem::Posix(), PlanOrDie(options), out, SmallTokenizer(), 0, 1, [](int64_t) {});
  ASSERT_FALSE(counts.ok());
  EXPECT_NE(counts.status().message().find("c.jsonl: line 41"), std::string::npos) << counts.status();
  EXPECT_TRUE(Contents(out).empty());
}

}  // namespace
}  // namespace trefoil
