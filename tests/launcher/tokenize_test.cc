#include "launcher/commands/tokenize.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <sstream>

#include "data/records/record_set.h"
#include "data/tokens/loader.h"
#include "data/tokens/tokenizer.h"
#include "launcher/report/progress.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "runtime/files/file.h"
#include "runtime/files/folder_lock.h"
#include "tests/runtime/files/fault_file_system.h"

namespace trefoil {
namespace {

class Tokenize : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
              std::to_string(getpid());
    ASSERT_TRUE(FileSystem::Posix().MakeFolder(folder_).ok());
    const char* words[] = {"Elizabeth", "walked", "to", "the", "ball", "and", "Mr.", "Darcy", "was", "proud"};
    std::minstd_rand random(1);
    for (const char* name : {"a.txt", "b.txt"}) {
      std::ofstream file(folder_ + "/" + name);
      for (int i = 0; i < 9000; ++i) file << words[random() % 10] << (random() % 50 == 0 ? "\n\n" : " ");
    }
    run_.corpus.inputs = {folder_ + "/*.txt"};
    run_.corpus.held_out = 0.1;
    run_.corpus.shard_bytes = 20000;
    run_.output = folder_ + "/corpus";
    run_.vocabulary = 300;
  }

  // Runs on `ranks` ranks; every rank has the same status. The summary is left in summary_.
  absl::Status Run(int ranks, FileSystem& fs = FileSystem::Posix()) {
    std::vector<absl::Status> statuses(ranks);
    std::ostringstream out;
    RunRanksAsThreads(ranks, [&](World& world) {
      auto device = NewCpuDevice(1);
      auto group = world.NewGroupOfAll(*device);
      statuses[world.rank()] = RunTokenize(fs, run_, *group, out);
    });
    for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]);
    summary_ = out.str();
    return statuses[0];
  }

  // Name -> content of the files of the output folder.
  std::map<std::string, std::string> Output() {
    std::map<std::string, std::string> contents;
    for (const std::string& path : Glob(run_.output + "/*")) {
      auto content = ReadFile(FileSystem::Posix(), path);
      contents[path.substr(run_.output.size() + 1)] = content.ok() ? *content : "not a file";
    }
    return contents;
  }

  void ExpectError(const absl::Status& status, std::initializer_list<std::string> parts) {
    ASSERT_FALSE(status.ok());
    for (const std::string& part : parts) {
      EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks " << part;
    }
  }

  std::string folder_, summary_;
  TokenizeRun run_;
};

TEST_F(Tokenize, RanksShareTheWorkAndTheFilesAreTheSame) {
  std::map<std::string, std::string> reference;
  for (int ranks : {1, 3}) {
    run_.output = folder_ + "/corpus" + std::to_string(ranks);
    const absl::Status status = Run(ranks);
    ASSERT_TRUE(status.ok()) << status;
    if (reference.empty()) reference = Output();
    EXPECT_TRUE(Output() == reference);
    EXPECT_NE(summary_.find("vocabulary 300"), std::string::npos) << summary_;
    EXPECT_NE(summary_.find("2 files"), std::string::npos) << summary_;
  }
  EXPECT_TRUE(reference.count("tokenizer.model"));
  EXPECT_TRUE(reference.count("train-00003.idx"));
  EXPECT_TRUE(reference.count("held_out-00000.bin"));
  EXPECT_FALSE(reference.count("partial"));
  auto loader = Loader::Open({run_.output + "/train-*"}, 16, 300, 1);
  ASSERT_TRUE(loader.ok()) << loader.status();
  EXPECT_TRUE((*loader)->Get(0, (*loader)->samples()).ok());
}

TEST_F(Tokenize, ATokenizerFileIsUsedAsItIs) {
  ASSERT_TRUE(Run(1).ok());
  const auto trained = Output();
  run_.tokenizer = run_.output + "/tokenizer.model";
  run_.output = folder_ + "/again";
  run_.vocabulary = 0;
  ASSERT_TRUE(Run(2).ok());
  EXPECT_TRUE(Output() == trained);
  run_.output = folder_ + "/other";
  run_.vocabulary = 4096;
  ExpectError(Run(2), {"vocabulary: 4096", "has 300"});
}

// With what lies beside it, from run to run.
TEST_F(Tokenize, ByteBpeIsATokenizerJson) {
  run_.kind = TrainedKind::kByteBpe;
  run_.vocabulary = 280;
  std::map<std::string, std::string> trained;
  for (const int ranks : {1, 3}) {
    run_.overwrite = true;
    ASSERT_TRUE(Run(ranks).ok());
    if (trained.empty()) trained = Output();
    EXPECT_TRUE(Output() == trained);
  }
  EXPECT_EQ(trained.count("tokenizer.model"), 0u);
  EXPECT_EQ(trained.count("tokenizer_config.json"), 1u);
  EXPECT_NE(summary_.find("/tokenizer.json, vocabulary 280"), std::string::npos) << summary_;
  EXPECT_EQ(summary_.find("note"), std::string::npos) << summary_;
  const auto tokenizer = Tokenizer::Load(FileSystem::Posix(), run_.output);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_TRUE(Loader::Open({run_.output + "/train-*"}, 16, 280, 1).ok());
  std::ofstream(run_.output + "/chat_template.jinja") << "a template";
  trained["chat_template.jinja"] = "a template";
  run_.kind = TrainedKind::kSentencePiece;
  run_.tokenizer = run_.output;
  run_.output = folder_ + "/again";
  run_.vocabulary = 0;
  ASSERT_TRUE(Run(2).ok());
  EXPECT_TRUE(Output() == trained);
}

TEST_F(Tokenize, AnOutputThatIsThereIsReplacedOnlyWhenAsked) {
  ASSERT_TRUE(Run(1).ok());
  const auto before = Output();
  std::ofstream(run_.output + "/notes.md") << "mine";
  run_.corpus.shard_bytes = 1 << 20;
  ExpectError(Run(2), {"output: " + run_.output, "already has", "--overwrite"});
  run_.overwrite = true;
  ASSERT_TRUE(Run(2).ok());
  const auto after = Output();
  EXPECT_EQ(after.count("train-00001.idx"), 0u);  // one shard now, and none of before
  EXPECT_EQ(after.at("notes.md"), "mine");
  EXPECT_NE(after.at("train-00000.bin"), before.at("train-00000.bin"));
}

TEST_F(Tokenize, TwoDoNotWriteIntoOneFolder) {
  ASSERT_TRUE(FileSystem::Posix().MakeFolder(run_.output).ok());
  auto other = FolderLock::Take(FileSystem::Posix(), run_.output);
  ASSERT_TRUE(other.ok()) << other.status();
  ExpectError(Run(2), {run_.output + " is in use by host "});
  other->reset();
  EXPECT_TRUE(Output().empty()) << "nothing was touched";
  const absl::Status status = Run(2);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Output().count("lock"), 0u);
}

TEST_F(Tokenize, BytesThatAreNotTextAreSaid) {
  std::ofstream(folder_ + "/a.txt", std::ios::app) << "caf\xe9";
  ASSERT_TRUE(Run(2).ok());
  EXPECT_NE(summary_.find("note         1 bytes of the text (0.00"), std::string::npos) << summary_;
  EXPECT_NE(summary_.find("are not UTF-8: each is a token of its own"), std::string::npos) << summary_;
  run_.overwrite = true;
  std::ofstream(folder_ + "/c.txt") << "caf\xe9";
  ExpectError(Run(2), {folder_ + "/c.txt: 25% of 4 bytes are not UTF-8 (the first is 0xe9)", "--allow_binary"});
  run_.corpus.any_bytes = true;
  const absl::Status status = Run(2);
  ASSERT_TRUE(status.ok()) << status;
}

TEST_F(Tokenize, FailureLeavesNothing) {
  std::ofstream(folder_ + "/z.jsonl") << "{\"text\": \"fine\"}\n{broken\n";
  run_.corpus.inputs.push_back(folder_ + "/z.jsonl");
  ExpectError(Run(2), {"z.jsonl: line 2", "broken JSON"});
  EXPECT_TRUE(Output().empty());
}

TEST_F(Tokenize, AFullDiskIsReportedAndLeavesNothing) {
  for (int64_t bytes : {100, 9000, 40000}) {
    FaultFileSystem fs(FileSystem::Posix());
    fs.FillAfter(bytes);
    ExpectError(Run(2, fs), {"no space left"});
    EXPECT_TRUE(Output().empty()) << bytes;
  }
}

// However a run is killed, the output has all token files or no .idx without its .bin.
TEST_F(Tokenize, AKilledRunIsNotTakenForAWholeOne) {
  run_.corpus.shard_bytes = 1 << 20;
  run_.corpus.inputs = {folder_ + "/a.txt"};
  int64_t whole = 0;
  for (int64_t call = 0; whole == 0; ++call) {
    run_.output = folder_ + "/corpus" + std::to_string(call);
    FaultFileSystem fs(FileSystem::Posix());
    fs.CrashAt(call);
    const bool ok = Run(1, fs).ok();
    const auto output = Output();
    for (const char* side : {"train-00000", "held_out-00000"}) {
      if (output.count(side + std::string(".idx"))) {
        EXPECT_TRUE(output.count(side + std::string(".bin"))) << call;
        EXPECT_TRUE(output.count("tokenizer.model")) << call;
      }
    }
    if (ok && !fs.crashed()) whole = call;
  }
  EXPECT_GT(whole, 10);
}

TEST_F(Tokenize, RanksWriteRecordsWithDescriptions) {
  const char* words[] = {"Elizabeth", "walked", "to", "the", "ball", "and", "Mr.", "Darcy", "was", "proud"};
  std::minstd_rand random(1);
  std::ofstream file(folder_ + "/x.jsonl");
  for (int i = 0; i < 2000; ++i) {
    file << "{\"text\": \"" << i;
    for (int word = 0; word < 6; ++word) file << " " << words[random() % 10];
    file << "\", \"label\": \"" << (i % 3 == 0 ? "proud" : "modest") << "\"}\n";
  }
  file.close();
  run_.corpus.inputs = {folder_ + "/x.jsonl"};
  run_.records = RecordKind::kLabels;
  std::map<std::string, std::string> reference;
  for (int ranks : {1, 3}) {
    run_.output = folder_ + "/corpus" + std::to_string(ranks);
    const absl::Status status = Run(ranks);
    ASSERT_TRUE(status.ok()) << status;
    if (reference.empty()) reference = Output();
    EXPECT_TRUE(Output() == reference);
    EXPECT_NE(summary_.find("records      labels: text, label; "), std::string::npos) << summary_;
    EXPECT_NE(summary_.find("classes      2: modest, proud\n"), std::string::npos) << summary_;
  }
  EXPECT_EQ(reference.count("train-00001.json"), 1u);
  EXPECT_EQ(reference.count("held_out-00000.json"), 1u);
  const auto train = RecordSet::Open({run_.output + "/train-*"});
  const auto held_out = RecordSet::Open({run_.output + "/held_out-*"});
  ASSERT_TRUE(train.ok() && held_out.ok()) << train.status() << held_out.status();
  EXPECT_EQ(train->size() + held_out->size(), 2000);
  EXPECT_NEAR(held_out->size(), 200, 60);
  EXPECT_EQ(train->label_counts()[1] + held_out->label_counts()[1], 667);
  EXPECT_TRUE(train->CheckAlike(*held_out).ok());
  const auto tokenizer = Tokenizer::Load(FileSystem::Posix(), run_.output + "/tokenizer.model");
  EXPECT_TRUE(train->CheckTokenizer(tokenizer->checksum(), "tokenizer.model").ok());
  // Descriptions go with the files that they describe, and no other file does.
  std::ofstream(run_.output + "/train-notes.json") << "mine";
  run_.records.reset();
  run_.corpus.inputs = {folder_ + "/a.txt"};
  run_.overwrite = true;
  ASSERT_TRUE(Run(2).ok());
  EXPECT_EQ(Output().count("train-00000.json"), 0u);
  EXPECT_EQ(Output().count("held_out-00000.json"), 0u);
  EXPECT_EQ(Output().at("train-notes.json"), "mine");
}

TEST_F(Tokenize, WrongRecordsLeaveNothing) {
  run_.records = RecordKind::kPairs;
  ExpectError(Run(2), {"a.txt: not a .jsonl"});
  run_.corpus.inputs = {folder_ + "/x.jsonl"};
  std::ofstream(folder_ + "/x.jsonl") << R"({"source": "a", "target": "b"})" << "\n" << R"({"source": "a"})";
  ExpectError(Run(2), {"x.jsonl: line 2: has no field \"target\""});
  EXPECT_TRUE(Output().empty());
  // All of them have one source, so that they are on one side; enough text for the tokenizer.
  std::ofstream lines(folder_ + "/x.jsonl");
  for (int i = 0; i < 2000; ++i) {
    lines << "{\"source\": \"the proud ball\", \"target\": \"" << i * 7919 << " balls\"}\n";
  }
  lines.close();
  run_.vocabulary = 262;
  ExpectError(Run(2), {"held_out: 0.1 of 2000 records is none"});
  EXPECT_TRUE(Output().empty());
}

TEST_F(Tokenize, BadOptionsAreExplained) {
  run_.output = "";
  ExpectError(Run(2), {"output: empty"});
  run_.output = folder_ + "/corpus";
  run_.vocabulary = 50000;
  ExpectError(Run(2), {"vocabulary: 50000", "no more than"});
  run_.vocabulary = 300;
  run_.corpus.inputs = {folder_ + "/*.csv"};
  ExpectError(Run(2), {"/*.csv", "matches no file"});
  run_.corpus.inputs = {folder_ + "/blank.txt"};
  std::ofstream(folder_ + "/blank.txt").flush();
  ExpectError(Run(2), {"blank.txt", "zero-length corpus"});
  std::ofstream(folder_ + "/blank.txt") << "short";
  run_.tokenizer = folder_ + "/no.model";
  ExpectError(Run(2), {"no.model"});
}

TEST(ProgressBar, ShowsShareSpeedAndTimeLeft) {
  EXPECT_EQ(ProgressBar::Line("tokenizing", 0.5, 61.2e6, 12.2, 10),
            "tokenizing [=====>    ]  50%    61.2 MB/s  0:12 left");
  EXPECT_EQ(ProgressBar::Line("x", 1, 1e6, 0, 4), "x [====] 100%     1.0 MB/s  0:00 left");
  EXPECT_EQ(ProgressBar::Line("x", 0, 0, 3723, 4), "x [>   ]   0%     0.0 MB/s  1:02:03 left");
  EXPECT_EQ(ProgressBar::Line("x", 1, 1234, 0, 4, {.name = "tokens", .size = 1}),
            "x [====] 100%  1234.0 tokens/s  0:00 left");
}

}  // namespace
}  // namespace trefoil
