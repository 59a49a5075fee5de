#include "launcher/commands/inspect.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "data/tokens/token_file.h"
#include "data/tokens/tokenizer.h"
#include "tests/launcher/inspect_testing.h"
#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Damages one byte.
void Flip(const std::string& path, int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ 0x5a);
  file.seekp(at);
  file.put(byte);
}

TEST(InspectTest, ARunItsCheckpointsAndOneOfThem) {
  const std::string folder = NewFolder("run");
  const RunConfig config = TinyRun(folder, "parallel { data: 2 } data { held_out: '" + folder +
                                               "/held_out' } training { steps: 4 checkpoint { every_steps: 2 } }");
  ASSERT_TRUE(RunTraining(config).status.ok());
  const std::string run = config.folder();
  const Seen seen = Look({.path = run + "/"});
  ASSERT_TRUE(seen.status.ok()) << seen.status;
  for (const char* part : {"4 steps of 8 x 16 tokens", "last step    4 of 4, loss ", "held out     loss ",
                           "checkpoints  step 2, step 4\n", "in use       by nobody", "tokenizer    none",
                           "trefoil inspect ", "/checkpoints/step-00000004"}) {
    EXPECT_THAT(seen.text, HasSubstr(part));
  }
  EXPECT_THAT(Look({.path = run + "/checkpoints"}).text, HasSubstr("step 2, step 4"));

  const std::string checkpoint = run + "/checkpoints/step-00000004";
  const Seen whole = Look({.path = checkpoint, .verify = true});
  ASSERT_TRUE(whole.status.ok()) << whole.status;
  for (const char* part :
       {"step         4 of 4, 32 samples used, 8 a step", "family: LLAMA", "precision    FP32", "train: 1601 tokens",
        "held out     held_out: 321 tokens", "blocks.0.attention.q.weight", "float32", "[32, 32]", "4.00 KiB", "adam.m",
        "weights", "whole        every byte is as it was written"}) {
    EXPECT_THAT(whole.text, HasSubstr(part));
  }
  EXPECT_THAT(whole.text, Not(HasSubstr("  adam.m/"))) << "moments are counted, not listed";
  // A byte of one tensor: named, and the others are looked at too.
  Flip(checkpoint + "/rank-00000.bin", 100);
  EXPECT_TRUE(Look({.path = checkpoint}).status.ok());
  const Seen damaged = Look({.path = checkpoint, .verify = true});
  EXPECT_TRUE(absl::IsDataLoss(damaged.status)) << damaged.status;
  EXPECT_THAT(damaged.status.message(), HasSubstr(checkpoint + " is damaged: " + checkpoint + "/rank-00000.bin"));
  EXPECT_THAT(damaged.text, HasSubstr("damaged      " + checkpoint + "/rank-00000.bin"));
  Flip(checkpoint + "/manifest.json", 100);
  EXPECT_THAT(Look({.path = checkpoint}).status.message(), HasSubstr(checkpoint + "/manifest.json"));
}

class InspectCorpus : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = NewFolder("corpus");
    std::string text;
    for (int i = 0; i < 500; ++i) text += "It is a truth universally acknowledged\n";
    auto tokenizer = Tokenizer::Train(std::vector<std::string>{text}, 280);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    ASSERT_TRUE(tokenizer->Save(FileSystem::Posix(), folder_).ok());
    for (const char* name : {"/train-00000", "/train-00001"}) {
      auto writer = TokenFileWriter::Create(FileSystem::Posix(), folder_ + name, 280);
      ASSERT_TRUE(writer.ok());
      ASSERT_TRUE((*writer)->AddDocument(tokenizer->Encode("It is a truth\nuniversally")).ok());
      ASSERT_TRUE((*writer)->AddDocument(tokenizer->Encode("\"acknowledged\" caf\xc3\xa9")).ok());
      ASSERT_TRUE((*writer)->AddDocument(tokenizer->Encode(text)).ok());
      ASSERT_TRUE((*writer)->Finish().ok());
    }
  }
  std::string folder_;
};

TEST_F(InspectCorpus, TokenFilesByFolderPatternAndPrefix) {
  for (const std::string& path : {folder_, folder_ + "/train-*", folder_ + "/train-00000", folder_ + "/train-00000.idx"}) {
    const Seen seen = Look({.path = path, .verify = true});
    ASSERT_TRUE(seen.status.ok()) << seen.status;
    const bool both = path == folder_ || path == folder_ + "/train-*";
    EXPECT_THAT(seen.text, HasSubstr(both ? "documents    6, of " : "documents    3, of ")) << path;
    EXPECT_THAT(seen.text, HasSubstr("tokenizer    " + folder_ + "/tokenizer.model, vocabulary 280"));
    EXPECT_THAT(seen.text, HasSubstr("document 0"));
    EXPECT_THAT(seen.text, HasSubstr("\"It is a truth\\nuniversally\"\n"));
    EXPECT_THAT(seen.text, HasSubstr("whole        every token was read; the largest id is "));
  }
  const Seen fourth = Look({.path = folder_, .document = 4});
  ASSERT_TRUE(fourth.status.ok()) << fourth.status;
  EXPECT_THAT(fourth.text, HasSubstr("of " + folder_ + "/train-00001 from token "));
  EXPECT_THAT(fourth.text, HasSubstr("\"\\\"acknowledged\\\" caf\xc3\xa9\""));
  EXPECT_THAT(Look({.path = folder_, .document = 6}).status.message(),
              HasSubstr("--document: 6, must be in [0, 6), the documents there are; nearest legal: 5"));
  // Lengths by powers of ten: two of each file are short, one is long.
  EXPECT_THAT(fourth.text, HasSubstr("         10-99  ############################## 4\n"));
  EXPECT_THAT(fourth.text, HasSubstr("   10000-99999  ###############                2\n"));
}

TEST_F(InspectCorpus, TokenFilesWithoutATokenizerOrOfAnother) {
  std::filesystem::remove(folder_ + "/tokenizer.model");
  const Seen seen = Look({.path = folder_, .verify = true});
  ASSERT_TRUE(seen.status.ok()) << seen.status;
  EXPECT_THAT(seen.text, HasSubstr("none beside the files"));
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), folder_ + "/train-00002", 1000);
  ASSERT_TRUE((*writer)->AddDocument(std::vector<int32_t>{1, 2, 999}).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  auto tokenizer = Tokenizer::Train(std::vector<std::string>{std::string(2000, 'x') + " abababab ab\n"}, 263);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string other = NewFolder("other");
  ASSERT_TRUE(tokenizer->Save(FileSystem::Posix(), other).ok());
  EXPECT_THAT(Look({.path = folder_ + "/train-00002", .verify = true, .tokenizer = other + "/tokenizer.model"}).status.message(),
              HasSubstr(folder_ + "/train-00002.bin: token 2 has id 999; ids are in [0, 263)"));
}

TEST_F(InspectCorpus, ATokenizerAndAText) {
  const Seen seen = Look({.path = folder_ + "/tokenizer.model", .text = "It is\na trick"});
  ASSERT_TRUE(seen.status.ok()) << seen.status;
  for (const char* part : {"vocabulary   280: 256 bytes, ", "symbols      0 <|endoftext|>, 1 <unk>", "exact        yes",
                           "kind         SentencePiece\n", "longest      ", "text         13 bytes, ", "  \"\\n\"\n", "\" \"\n"}) {
    EXPECT_THAT(seen.text, HasSubstr(part));
  }
  EXPECT_THAT(seen.text, Not(HasSubstr("\nback "))) << "it comes back as it was";
}

TEST_F(InspectCorpus, WhatIsNotThereOrUnknownIsNamed) {
  EXPECT_THAT(Look({.path = ""}).status.message(), HasSubstr("nothing named"));
  EXPECT_THAT(Look({.path = folder_ + "/none"}).status.message(), HasSubstr(folder_ + "/none.idx: missing"));
  const std::string empty = NewFolder("empty");
  EXPECT_THAT(Look({.path = empty}).status.message(), HasSubstr(empty + ": a folder with nothing known in it"));
  std::ofstream(empty + "/x.model") << "no model";
  EXPECT_THAT(Look({.path = empty + "/x.model"}).status.message(), HasSubstr(empty + "/x.model: not a SentencePiece model"));
}

}  // namespace
}  // namespace trefoil
