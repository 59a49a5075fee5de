// Runs that start from the weights of another: which of its parameters they have, and what the others are.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <set>

#include "data/images/image_file.h"
#include "runtime/files/file.h"
#include "tests/data/records/record_testing.h"
#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

using testing::HasSubstr;
using testing::Not;

// A step that changes next to nothing: what is saved is what the run started from, but that zeros are 1e-30.
constexpr char kStill[] = "training { steps: 1 optimizer { learning_rate: 1e-30 weight_decay: 0 } } ";

constexpr char kBert[] = "model { family: BERT layers: 2 vocabulary: 80 } ";
constexpr char kVit[] =
    "model { family: VIT layers: 2 vocabulary: 0 sequence_length: 0 image_size: 8 patch_size: 2 channels: 1 } ";

// Starts from `weights`, a path, in a folder of its own.
RunConfig From(const std::string& folder, const std::string& name, const std::string& weights,
               const std::string& more) {
  return TinyRun(folder, absl::StrCat("folder: '", folder, "/", name, "' training { checkpoint { initial_weights: '",
                                      weights, "' } } ", more));
}

RunConfig OnData(RunConfig config, const std::string& path) {
  config.mutable_data()->set_train(0, path);
  return config;
}

// Texts of six tokens in three classes.
std::string LabelledTextsIn(const std::string& folder) {
  const RecordDescription description = {
      .parts = {RecordPart::kText, RecordPart::kLabel}, .labels = {"a", "b", "c"}, .vocabulary = 61};
  std::vector<Record> records;
  for (int32_t i = 0; i < 40; ++i) {
    records.push_back({{i, i % 3, (7 * i + 1) % 61, i % 5, 3, (11 * i) % 61}, {i % 3}});
  }
  WriteRecords(folder + "/labelled", description, records);
  return folder + "/labelled";
}

// Images of 8 x 8 in three classes.
std::string ImagesIn(const std::string& folder) {
  const ImageFormat format = {.height = 8, .width = 8, .channels = 1, .classes = {"a", "b", "c"}};
  std::vector<int32_t> labels;
  for (int i = 0; i < 24; ++i) labels.push_back(i % 3);
  auto writer = ImageFileWriter::Create(FileSystem::Posix(), folder + "/images-00000.images", format, labels);
  CHECK(writer.ok()) << writer.status();
  for (int i = 0; i < 24; ++i) {
    std::vector<uint8_t> values;
    for (int v = 0; v < 64; ++v) values.push_back(static_cast<uint8_t>(9 * i + v * (i % 3 + 1)));
    CHECK((*writer)->Add(values).ok());
  }
  CHECK((*writer)->Finish().ok());
  return folder + "/images-*";
}

// Of a parameter after a still step.
std::vector<float> Values(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  for (float& value : values) value = std::abs(value) < 1e-25f ? 0 : value;
  return values;
}

// Expects the parameters of `run` after a still step to be those of `before`, after its step `step`, under the names of
// `renamed` where they have another there, but for `fresh`, which are those that random weights begin with.
void ExpectTaken(const RunConfig& run, const RunConfig& before, int64_t step, const std::set<std::string>& fresh,
                 const std::map<std::string, std::string>& renamed = {}) {
  const auto after = CheckpointContentOf(run, 1), there = CheckpointContentOf(before, step);
  RunConfig random = With(run, absl::StrCat("folder: '", run.folder(), "_random'"));
  random.mutable_training()->mutable_checkpoint()->clear_initial_weights();
  ASSERT_TRUE(RunTraining(random).status.ok());
  const auto at_random = CheckpointContentOf(random, 1);
  int taken = 0;
  for (const auto& [name, bytes] : after) {
    if (absl::StrContains(name, "/") || name == "trainer_state") continue;
    if (fresh.contains(name)) {
      EXPECT_EQ(Values(bytes), Values(at_random.at(name))) << name << " is not random";
    } else {
      const auto other = renamed.find(name);
      EXPECT_EQ(Values(bytes), Values(there.at(other == renamed.end() ? name : other->second)))
          << name << " is not taken";
      ++taken;
    }
  }
  EXPECT_GT(taken, 20);
}

TEST(InitialWeights, AnotherHeadForAnEncoder) {
  const std::string folder = NewFolder("runs");
  const RunConfig before = TinyRun(folder, absl::StrCat(kBert, "parallel { tensor: 2 } training { steps: 4 }"));
  ASSERT_TRUE(RunTraining(before).status.ok());
  const std::string texts = LabelledTextsIn(folder);
  const std::set<std::string> fresh = {"head.pooler.weight", "head.pooler.bias", "head.output.weight",
                                       "head.output.bias"};
  int number = 0;
  for (const char* more : {"", "parallel { tensor: 2 data: 2 } training { precision: BF16 }",
                           "parallel { pipeline: 2 data: 2 zero: NONE }"}) {
    const RunConfig run =
        OnData(From(folder, absl::StrCat("still", number++), before.folder(),
                    absl::StrCat(kBert, kStill, "model { classes: 3 } task { kind: TEXT_CLASSES } ", more)),
               texts);
    const RunOutcome outcome = RunTraining(run);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_THAT(outcome.output,
                HasSubstr(absl::StrCat("Starting from the weights of ", before.folder(),
                                       "/checkpoints/step-00000004 (step 4): 37 parameters are taken; 4 are new, at "
                                       "random: head.*; 5 of its own are not used: head.*.\n")));
    ExpectTaken(run, before, 4, fresh);
  }
}

// Two real steps, whatever the layout.
TEST(InitialWeights, TheFirstStepsAreTheSameOnEveryLayout) {
  const std::string folder = NewFolder("runs");
  const RunConfig before = TinyRun(folder, absl::StrCat(kBert, "training { steps: 4 }"));
  ASSERT_TRUE(RunTraining(before).status.ok());
  const std::string texts = LabelledTextsIn(folder);
  std::vector<double> reference;
  for (const char* layout :
       {"", "tensor: 2", "pipeline: 2", "data: 2", "tensor: 2 pipeline: 2 sequence_parallel: true"}) {
    const RunConfig run = OnData(
        From(folder, absl::StrCat("layout ", layout), before.folder(),
             absl::StrCat(kBert, "model { classes: 3 } task { kind: TEXT_CLASSES } training { steps: 3 } parallel { ",
                          layout, " }")),
        texts);
    ASSERT_TRUE(RunTraining(run).status.ok()) << layout;
    const std::vector<double> losses = Losses(run);
    ASSERT_EQ(losses.size(), 3u);
    if (reference.empty()) reference = losses;
    for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], reference[i], 1e-5 * reference[i]) << layout;
  }
}

// A masked autoencoder's encoder, and the norm behind it.
TEST(InitialWeights, ClassesForAMaskedAutoencoder) {
  const std::string folder = NewFolder("runs");
  const std::string images = ImagesIn(folder);
  // As wide as the encoder, so that names and shapes of its last norm are those of the classifier's.
  const RunConfig before =
      OnData(TinyRun(folder, absl::StrCat(kVit,
                                          "model { decoder_layers: 1 decoder_hidden: 32 decoder_heads: 4 classes: 0 } "
                                          "task { kind: PATCHES } training { steps: 4 }")),
             images);
  ASSERT_TRUE(RunTraining(before).status.ok());
  const RunConfig run =
      OnData(From(folder, "still", before.folder(),
                  absl::StrCat(kVit, kStill, "model { classes: 3 pooling: MEAN stochastic_depth: 0.1 }")),
             images);
  const RunOutcome outcome = RunTraining(run);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(outcome.output, HasSubstr("2 are new, at random: head.output.*; "));
  EXPECT_THAT(outcome.output, HasSubstr(" of its own are not used: decoder.*, head.*.\n"));
  ExpectTaken(run, before, 4, {"head.output.weight", "head.output.bias"},
              {{"head.norm.weight", "encoder.norm.weight"}, {"head.norm.bias", "encoder.norm.bias"}});

  // And back: the encoder of a classifier for an autoencoder.
  const RunConfig back = OnData(
      From(folder, "back", run.folder(),
           absl::StrCat(kVit, kStill,
                        "model { decoder_layers: 1 decoder_hidden: 32 decoder_heads: 4 } task { kind: PATCHES }")),
      images);
  ASSERT_TRUE(RunTraining(back).status.ok());
  const auto weights = CheckpointContentOf(back, 1);
  EXPECT_EQ(weights.at("encoder.norm.weight"), CheckpointContentOf(run, 1).at("head.norm.weight"));
  EXPECT_EQ(Values(weights.at("head.norm.weight")), std::vector<float>(32, 1));
}

// Another number of classes is another head; of an equal number it is the head that is there.
TEST(InitialWeights, TheHeadIsTakenWhereItIsTheSame) {
  const std::string folder = NewFolder("runs");
  const std::string images = ImagesIn(folder);
  const RunConfig before =
      OnData(TinyRun(folder, absl::StrCat(kVit, "model { classes: 3 } training { steps: 2 }")), images);
  ASSERT_TRUE(RunTraining(before).status.ok());
  const auto outcome = [&](int classes) {
    return RunTraining(OnData(From(folder, absl::StrCat("classes", classes), before.folder(),
                                   absl::StrCat(kVit, kStill, "model { classes: ", classes, " }")),
                              images))
        .output;
  };
  EXPECT_THAT(outcome(3), HasSubstr("(step 2): all 40 parameters are taken.\n"));
  EXPECT_THAT(outcome(5),
              HasSubstr("38 parameters are taken; 2 are new, at random: head.output.*; 2 of its own are not "
                        "used: head.output.*.\n"));
}

// Learned positions: the first rows of a longer table. There is nothing to make a longer one of.
TEST(InitialWeights, ShorterTextsHaveTheFirstPositions) {
  const std::string folder = NewFolder("runs");
  const char kGpt[] = "model { family: GPT layers: 2 } ";
  const RunConfig before = TinyRun(folder, absl::StrCat(kGpt, "training { steps: 2 }"));
  ASSERT_TRUE(RunTraining(before).status.ok());
  const RunConfig run = From(folder, "shorter", before.folder(),
                             absl::StrCat(kGpt, kStill, "model { sequence_length: 8 } parallel { data: 2 }"));
  ASSERT_TRUE(RunTraining(run).status.ok());
  const std::string rows = CheckpointContentOf(run, 1).at("embedding.position.weight");
  EXPECT_EQ(rows.size(), 8 * 32 * sizeof(float));
  EXPECT_EQ(rows, CheckpointContentOf(before, 2).at("embedding.position.weight").substr(0, rows.size()));
  const RunOutcome longer =
      RunTraining(From(folder, "longer", before.folder(), absl::StrCat(kGpt, kStill, "model { sequence_length: 20 }")));
  EXPECT_THAT(
      longer.status.message(),
      HasSubstr("model.sequence_length: 16 in the checkpoint, 20 in this run, but its learned positions end there; "
                "nearest legal: 16"));
  // Rotary ones do not end.
  const RunConfig rotary =
      TinyRun(folder, absl::StrCat("folder: '", folder, "/rotary' model { layers: 2 } training { steps: 2 }"));
  ASSERT_TRUE(RunTraining(rotary).status.ok());
  EXPECT_THAT(RunTraining(From(folder, "rotary longer", rotary.folder(),
                               absl::StrCat(kStill, "model { layers: 2 sequence_length: 20 }")))
                  .output,
              HasSubstr("parameters are taken.\n"));
}

TEST(InitialWeights, WhatGivesThemMeaningMustMatch) {
  const std::string folder = NewFolder("runs");
  const RunConfig before = TinyRun(folder, "model { layers: 2 } training { steps: 2 }");
  ASSERT_TRUE(RunTraining(before).status.ok());
  const auto error = [&](const std::string& more) {
    return std::string(RunTraining(From(folder, "refused", before.folder(), absl::StrCat("model { layers: 2 } ", more)))
                           .status.message());
  };
  const std::string fields = error("model { layers: 3 heads: 8 kv_heads: 2 vocabulary: 64 tied: true }");
  EXPECT_THAT(fields, HasSubstr(absl::StrCat("training.checkpoint.initial_weights: ", before.folder(),
                                             "/checkpoints/step-00000002 is a checkpoint of another model:\n")));
  for (const char* field : {"layers", "heads", "kv_heads", "head_dim", "vocabulary", "tied"}) {
    EXPECT_THAT(fields, HasSubstr(absl::StrCat("\n  model.", field, ": ")));
  }
  EXPECT_THAT(fields, Not(HasSubstr("model.hidden")));
  EXPECT_THAT(error("model { rope_theta: 500 }"),
              HasSubstr("model.rope_theta was 10000, is 500: the weights were trained with "
                        "other positions\nGive what the weights were trained with, or "
                        "--allow_change."));
  const RunOutcome allowed =
      RunTraining(From(folder, "allowed", before.folder(), absl::StrCat(kStill, "model { layers: 2 rope_theta: 500 }")),
                  [](int, RankRun& run) { run.options.allow_change = true; });
  EXPECT_THAT(allowed.output, HasSubstr("Note: of the initial weights, model.rope_theta was 10000, is 500"));
  EXPECT_THAT(RunTraining(From(folder, "none", folder + "/nothing", "")).status.message(),
              HasSubstr("training.checkpoint.initial_weights: " + folder + "/nothing does not exist"));
}

// Ids of another tokenizer are other text, even where there are as many.
TEST(InitialWeights, AnotherTokenizerIsRefused) {
  const std::string folder = NewFolder("runs");
  for (const char* name : {"a", "b"}) {
    ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), absl::StrCat(folder, "/", name, ".model"), name).ok());
  }
  const std::string more = "model { layers: 2 } training { steps: 2 } data { tokenizer: '" + folder;
  const RunConfig before = TinyRun(folder, more + "/a.model' }");
  ASSERT_TRUE(RunTraining(before).status.ok());
  EXPECT_TRUE(RunTraining(From(folder, "same", before.folder(), more + "/a.model' }")).status.ok());
  EXPECT_THAT(RunTraining(From(folder, "other", before.folder(), more + "/b.model' }")).status.message(),
              HasSubstr("a token id stands for another piece of text"));
}

// A run's newest checkpoint, or the one before it if that is damaged.
TEST(InitialWeights, OfARunTheNewestThatIsWhole) {
  const std::string folder = NewFolder("runs");
  const RunConfig before = TinyRun(folder, "model { layers: 2 } training { steps: 4 checkpoint { every_steps: 2 } }");
  ASSERT_TRUE(RunTraining(before).status.ok());
  const auto start = [&](const std::string& name, const std::string& path) {
    return RunTraining(From(folder, name, path, absl::StrCat(kStill, "model { layers: 2 }")));
  };
  EXPECT_THAT(start("folder", before.folder() + "/checkpoints/").output, HasSubstr("step-00000004 (step 4): all "));
  EXPECT_THAT(start("one", before.folder() + "/checkpoints/step-00000002").output, HasSubstr("(step 2): all "));
  ASSERT_TRUE(
      WriteFileAtomically(FileSystem::Posix(), before.folder() + "/checkpoints/step-00000004/manifest.json", "{").ok());
  const RunOutcome outcome = start("damaged", before.folder());
  EXPECT_THAT(outcome.output, HasSubstr("(step 2): all "));
  EXPECT_THAT(outcome.output, HasSubstr("step-00000004 is damaged: "));
  EXPECT_THAT(start("only damaged", before.folder() + "/checkpoints/step-00000004").status.message(),
              HasSubstr("step-00000004 is damaged: "));
}

}  // namespace
}  // namespace trefoil
