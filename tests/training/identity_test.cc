// Whether a start goes on with the run that it finds, says what it changes, or is refused and changes nothing.
#include "training/identity.h"

#include <absl/strings/str_cat.h>

#include <filesystem>
#include <map>

#include "data/tokens/tokenizer_files.h"
#include "runtime/files/file.h"
#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

namespace fs = std::filesystem;

// Every file of a folder with its content.
std::map<std::string, std::string> Files(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[entry.path().string()] = *ReadFile(FileSystem::Posix(), entry.path().string());
  }
  return files;
}

void Allow(int, RankRun& run) { run.options.allow_change = true; }

class IdentityTest : public testing::Test {
 protected:
  void SetUp() override { folder_ = NewFolder("runs"); }
  // A run of two steps, done.
  void Begin(const std::string& more = "") {
    config_ = TinyRun(folder_, "model { layers: 1 } parallel { data: 2 } training { steps: 2 } " + more);
    const RunOutcome outcome = RunTraining(config_);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  }
  // The run goes on for a step with `more`, and says no word of it.
  void ExpectQuiet(const RunConfig& config) {
    const RunOutcome outcome = RunTraining(config);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(outcome.output.find("Note:"), std::string::npos) << outcome.output;
  }
  void ExpectNoted(const RunConfig& config, const std::string& note) {
    const RunOutcome outcome = RunTraining(config);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_NE(outcome.output.find("Note: " + note), std::string::npos) << outcome.output;
  }
  // Refused with no file changed; allowed by name it goes on, and is the same run from then on.
  void ExpectRefusedUnlessAllowed(const RunConfig& config, const std::string& change) {
    const auto before = Files(config_.folder());
    const RunOutcome refused = RunTraining(config);
    EXPECT_TRUE(absl::IsFailedPrecondition(refused.status)) << refused.status;
    for (const std::string& part : {change, std::string("--allow_change")}) {
      EXPECT_NE(refused.status.message().find(part), std::string::npos) << refused.status << "\nlacks: " << part;
    }
    EXPECT_EQ(refused.output, "");
    EXPECT_TRUE(Files(config_.folder()) == before) << "a refused start changed the run's folder";
    const RunOutcome allowed = RunTraining(config, Allow);
    ASSERT_TRUE(allowed.status.ok()) << allowed.status;
    EXPECT_NE(allowed.output.find("Note: " + change), std::string::npos) << allowed.output;
    EXPECT_EQ(NewestStep(config), config.training().steps());
    RunConfig longer = config;
    longer.mutable_training()->set_steps(config.training().steps() + 1);
    ExpectNoted(longer, "training.steps was");
    ExpectQuiet(longer);
  }
  RunConfig Longer(const std::string& more = "") { return With(config_, "training { steps: 3 } " + more); }

  std::string folder_;
  RunConfig config_;
};

TEST_F(IdentityTest, AnotherCorpusIsRefused) {
  Begin();
  WriteTokens(folder_ + "/train2", LearnableIds(33, 61, 3), 61);
  ExpectRefusedUnlessAllowed(Longer("data { train: '" + folder_ + "/train2' }"),
                             "data.train was 1 file of 1601 tokens (");
}

// As many tokens in as many documents, one of them another.
TEST_F(IdentityTest, AnotherCorpusOfTheSameSizesIsRefused) {
  Begin();
  WriteTokens(folder_ + "/train", LearnableIds(100 * 16 + 1, 61, 5), 61);
  ExpectRefusedUnlessAllowed(Longer(), "data.train was 1 file of 1601 tokens (");
}

TEST_F(IdentityTest, ACorpusMayMove) {
  Begin();
  fs::create_directories(folder_ + "/moved");
  for (const char* extension : {".bin", ".idx"}) {
    fs::rename(folder_ + "/train" + extension, folder_ + "/moved/renamed" + extension);
  }
  RunConfig moved = config_;
  moved.mutable_data()->set_train(0, folder_ + "/moved/renamed");
  ExpectQuiet(moved);
}

TEST_F(IdentityTest, AnotherSequenceLengthOrderOrRotaryBaseIsRefused) {
  Begin();
  ExpectRefusedUnlessAllowed(Longer("model { sequence_length: 20 }"), "model.sequence_length was 16, is 20: samples");
  config_ = Longer("model { sequence_length: 20 } training { steps: 5 }");
  ExpectRefusedUnlessAllowed(With(config_, "data { seed: 9 }"), "data.seed was 7, is 9: ");
  config_ = With(config_, "data { seed: 9 } training { steps: 7 }");
  ExpectRefusedUnlessAllowed(With(config_, "model { rope_theta: 500000 }"), "model.rope_theta was 10000, is 500000: ");
  config_ = With(config_, "model { rope_theta: 500000 } training { steps: 9 }");
  ExpectRefusedUnlessAllowed(With(config_, "model { rope_scaling { kind: LINEAR factor: 2 } }"),
                             "model.rope_scaling was none, is {kind: LINEAR factor: 2}: ");
}

TEST_F(IdentityTest, WhatIsHarmlessIsSaid) {
  Begin("model { family: GPT }");
  ExpectNoted(Longer("training { precision: BF16 }"), "training.precision was FP32, is BF16: ");
  config_ = Longer("training { precision: BF16 steps: 4 }");
  ExpectNoted(With(config_, "runtime { bf16_products: FLOAT32 }"), "runtime.bf16_products was NATIVE, is FLOAT32: ");
  config_ = Longer("training { precision: BF16 steps: 5 } runtime { bf16_products: FLOAT32 }");
  ExpectNoted(With(config_, "model { dropout: 0.25 }"), "model.dropout was 0, is 0.25: ");
  config_ = With(config_, "model { dropout: 0.25 } training { steps: 6 }");
  ExpectNoted(With(config_, "model { initial_deviation: 0.5 }"), "model.initial_deviation was 0.08, is 0.5: ");
}

TEST_F(IdentityTest, MaskedDocumentsAreSaid) {
  Begin();
  ExpectNoted(Longer("data { mask_documents: true }"), "data.mask_documents was false, is true: ");
}

TEST_F(IdentityTest, OtherHeldOutTextIsSaid) {
  Begin("data { held_out: '" + folder_ + "/held_out' }");
  WriteTokens(folder_ + "/held_out", LearnableIds(20 * 16 + 1, 61, 9), 61);
  ExpectNoted(Longer(), "data.held_out was 1 file of 321 tokens (");
}

TEST_F(IdentityTest, InitialWeightsBesideACheckpointAreSaidNotToBeRead) {
  Begin();
  ExpectNoted(Longer("training { checkpoint { initial_weights: '" + config_.folder() + "/checkpoints/step-00000002' } }"),
              "training.checkpoint.initial_weights is not read: ");
}

std::string HashOf(const std::string& tokenizer) {
  TokenizerFiles files;
  files.content = tokenizer;
  return files.checksum();
}

// Another tokenizer of the same number of pieces would give old checkpoints another meaning without a sign.
TEST_F(IdentityTest, ATokenizerIsNeverLost) {
  const std::string path = folder_ + "/t.model", copy = folder_ + "/run/tokenizer.model";
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, "a tokenizer").ok());
  Begin("data { tokenizer: '" + path + "' }");
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, "another").ok());
  const std::string old_hash = HashOf("a tokenizer"), new_hash = HashOf("another");
  ExpectRefusedUnlessAllowed(Longer(), absl::StrCat("data.tokenizer was ", old_hash, ", is ", new_hash, ": "));
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), copy), "another");
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), folder_ + "/run/tokenizer-" + old_hash + ".model"), "a tokenizer");
}

// Nor what lies beside it.
TEST_F(IdentityTest, ATokenizerKeepsWhatIsBesideIt) {
  const auto write = [&](const std::string& name, const std::string& content) {
    ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), folder_ + "/" + name, content).ok());
  };
  write("tokenizer.json", "{}");
  write("tokenizer_config.json", "its config");
  write("chat_template.jinja", "its template");
  Begin("data { tokenizer: '" + folder_ + "/tokenizer.json' }");
  const std::string run = config_.folder(), suffix = "-" + HashOf("{}");
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), run + "/tokenizer_config.json"), "its config");
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), run + "/chat_template.jinja"), "its template");
  fs::create_directory(folder_ + "/other");
  write("other/t.model", "another");
  ExpectRefusedUnlessAllowed(Longer("data { tokenizer: '" + folder_ + "/other/t.model' }"), "data.tokenizer was ");
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), run + "/tokenizer.model"), "another");
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), run + "/tokenizer" + suffix + ".json"), "{}");
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), run + "/tokenizer_config" + suffix + ".json"), "its config");
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), run + "/chat_template" + suffix + ".jinja"), "its template");
  for (const char* gone : {"/tokenizer.json", "/tokenizer_config.json", "/chat_template.jinja"}) {
    EXPECT_FALSE(fs::exists(run + gone)) << gone;
  }
  const auto kept = ReadTokenizerFiles(FileSystem::Posix(), KeptTokenizerIn(FileSystem::Posix(), run, HashOf("{}")));
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(kept->config, "its config");
  EXPECT_EQ(kept->chat_template, "its template");
}

// A run that was cut off before its first save has no checkpoint to say which tokenizer it is.
TEST_F(IdentityTest, NorIsATokenizerWithoutACheckpoint) {
  const std::string path = folder_ + "/t.model";
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, "a tokenizer").ok());
  Begin("data { tokenizer: '" + path + "' }");
  fs::remove_all(config_.folder() + "/checkpoints");
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, "another").ok());
  const auto before = Files(config_.folder());
  const absl::Status status = RunTraining(Longer()).status;
  for (const std::string& part : {path, HashOf("a tokenizer"), HashOf("another"), config_.folder()}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks: " << part;
  }
  EXPECT_TRUE(Files(config_.folder()) == before);
}

TEST_F(IdentityTest, ARefusedModelChangesNoFile) {
  Begin();
  const auto before = Files(config_.folder());
  EXPECT_TRUE(absl::IsFailedPrecondition(RunTraining(Longer("model { layers: 2 }")).status));
  EXPECT_TRUE(Files(config_.folder()) == before);
}

// A host's own copy of the corpus lacks the last shard, or has another one of its name.
TEST_F(IdentityTest, RanksWithOtherDataAreNamed) {
  config_ = TinyRun(folder_, "model { layers: 1 } parallel { data: 4 } training { steps: 2 }");
  fs::create_directories(folder_ + "/other");
  for (const bool same_size : {false, true}) {
    WriteTokens(folder_ + "/other/train", LearnableIds(same_size ? 1601 : 1600, 61, 8), 61);
    const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
      if (rank >= 2) run.config.mutable_data()->set_train(0, folder_ + "/other/train");
    });
    const std::string expected = same_size ? "data.train, file train: rank 2 on " : "data.train: rank 2 on ";
    EXPECT_NE(outcome.status.message().find(expected), std::string::npos) << outcome.status;
    EXPECT_FALSE(fs::exists(config_.folder()));
  }
}

TEST_F(IdentityTest, RanksWithAnotherTokenizerAreNamed) {
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), folder_ + "/a.model", "a tokenizer").ok());
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), folder_ + "/b.model", "another").ok());
  config_ = TinyRun(folder_, "model { layers: 1 } parallel { data: 2 } data { tokenizer: '" + folder_ + "/a.model' }");
  const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
    if (rank == 1) run.config.mutable_data()->set_tokenizer(folder_ + "/b.model");
  });
  EXPECT_NE(outcome.status.message().find("data.tokenizer: rank 1 on "), std::string::npos) << outcome.status;
  EXPECT_NE(outcome.status.message().find(HashOf("another")), std::string::npos) << outcome.status;
}

// What checkpoints of earlier programs do not say is no change.
TEST(ChangesSinceTest, UnknownIsNoChange) {
  ModelConfig model;
  model.set_sequence_length(16);
  TrainerState before, now;
  now.add_train()->set_tokens(5);
  now.add_held_out()->set_tokens(5);
  now.set_tokenizer("12345678");
  now.set_precision(TrainingConfig::BF16);
  now.set_program_version("build 1");
  for (TrainerState* state : {&before, &now}) {
    state->set_seed(3);
    state->set_steps(9);
    state->mutable_optimizer()->set_learning_rate(1);
  }
  EXPECT_TRUE(ChangesSince({before, model}, {now, model}).empty());
  EXPECT_TRUE(ChangesSince({now, model}, {before, model}).empty());
  EXPECT_TRUE(ChangesSince({now, model}, {now, model}).empty());
}

}  // namespace
}  // namespace trefoil
