#include "training/saving/checkpoint_space.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "tests/runtime/files/odd_file_systems.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Saves are in the foreground, but where the text says otherwise.
RunConfig Config(const std::string& training) {
  RunConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "model { family: LLAMA head: TOKENS layers: 1 hidden: 32 heads: 4 kv_heads: 4 head_dim: 8 feed_forward: 64 vocabulary: 100 "
      "sequence_length: 16 } training { " + training + " }", &config));
  config.set_folder(testing::TempDir() + "space");
  CheckpointConfig* checkpoint = config.mutable_training()->mutable_checkpoint();
  if (checkpoint->writing() == CheckpointConfig::WRITING_UNSET) checkpoint->set_writing(CheckpointConfig::FOREGROUND);
  FillDefaults(&config, 1, {});
  return config;
}

int64_t Most(const std::string& training, int64_t step = 0) { return MostCheckpoints(Config(training).training(), step); }

TEST(CheckpointSpace, CountsWhatIsThereAtTheSameTime) {
  EXPECT_EQ(Most("steps: 100 checkpoint { keep_last: 2 }"), 1);  // only at the end
  EXPECT_EQ(Most("steps: 100 checkpoint { every_steps: 10 keep_last: 2 }"), 3);
  EXPECT_EQ(Most("steps: 100 checkpoint { every_steps: 10 keep_last: 2 writing: BACKGROUND }"), 3);
  EXPECT_EQ(Most("steps: 100 checkpoint { every_steps: 60 keep_last: 2 }"), 2);
  EXPECT_EQ(Most("steps: 100 checkpoint { every_steps: 100 keep_last: 2 }"), 1);
  EXPECT_EQ(Most("steps: 105 checkpoint { every_steps: 10 keep_last: 0 }"), 11);
  EXPECT_EQ(Most("steps: 105 checkpoint { every_steps: 10 keep_last: 0 }", 39), 8);
  EXPECT_EQ(Most("steps: 105 checkpoint { every_steps: 10 keep_last: 0 }", 40), 7);
  EXPECT_EQ(Most("steps: 105 checkpoint { every_steps: 10 keep_last: 0 }", 105), 0);
  // The best evaluation's besides.
  EXPECT_EQ(Most("steps: 100 checkpoint { every_steps: 10 keep_last: 2 } evaluate_every_steps: 5 early_stop { "
                 "evaluations: 3 }"),
            4);
  EXPECT_EQ(Most("steps: 100 checkpoint { every_steps: 10 keep_last: 0 } evaluate_every_steps: 20 early_stop { "
                 "evaluations: 3 }"),
            15);
  EXPECT_EQ(Most("steps: 2000000000 checkpoint { every_steps: 10 keep_last: 1 keep_every: 15 }"), 66666666 + 2);
}

TEST(CheckpointSpace, SaysWhetherItWillDo) {
  FileSystem& real = FileSystem::Posix();
  const RunConfig config = Config("steps: 100 checkpoint { every_steps: 10 keep_last: 2 }");
  // Embedding, head, q k v o, gate up down, three norms.
  const int64_t each = 12 * (2 * 100 * 32 + 4 * 32 * 32 + 3 * 32 * 64 + 3 * 32);
  EXPECT_EQ(CheckpointBytes(config), each);
  ASSERT_TRUE(real.Remove(config.folder()).ok());
  ASSERT_TRUE(real.MakeFolder(config.folder() + "/checkpoints/step-00000010").ok());
  const auto check = [&](int64_t free, std::vector<std::string>* notes, int64_t step = 10) {
    SmallFileSystem fs(real, free);
    notes->clear();
    return CheckSpace(fs, config, /*share=*/1, step, notes);
  };
  std::vector<std::string> notes;
  const absl::Status none = check(each - 1, &notes);
  EXPECT_TRUE(absl::IsResourceExhausted(none));
  EXPECT_THAT(none.message(), AllOf(HasSubstr("folder: " + config.folder() + " has "),
                                    HasSubstr(" free, but a checkpoint of this model takes ")));
  EXPECT_TRUE(check(3 * each, &notes).ok());
  EXPECT_THAT(notes, ElementsAre());
  EXPECT_TRUE(check(3 * each - 1, &notes).ok());
  EXPECT_THAT(notes, ElementsAre(AllOf(HasSubstr("WARNING: " + config.folder() + " has "), HasSubstr("(3 at the same time"))));
  // The one that lies there will go.
  ASSERT_TRUE(WriteFileAtomically(real, config.folder() + "/checkpoints/step-00000010/x", std::string(500, 'x')).ok());
  EXPECT_TRUE(check(3 * each - 500, &notes).ok());
  EXPECT_THAT(notes, ElementsAre());
  EXPECT_TRUE(check(3 * each - 501, &notes).ok());
  EXPECT_EQ(notes.size(), 1u);
  // A finished run needs none.
  EXPECT_TRUE(check(0, &notes, 100).ok());
}

}  // namespace
}  // namespace trefoil
