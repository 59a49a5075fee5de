// `trefoil merge`, the real program: what it writes continues a text as the adapted model does.
#include <gtest/gtest.h>

#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

TEST(Merge, TheOutputIsAPlainModelToUse) {
  const std::string folder = EmptyFolder("merge");
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "The " + std::to_string(i * i % 977) + "th word, and one more of them.\n";
  WriteText(folder + "/text.txt", text);
  const Ended tokens = RunProgram(
      {Trefoil(), "tokenize", "--input=" + folder + "/text.txt", "--output=" + folder + "/tokens", "--vocabulary=300"});
  ASSERT_EQ(tokens.status, 0) << tokens.output;
  std::vector<std::string> words = {Trefoil(), "train", "--config=quickstart"};
  for (const std::string& set :
       {std::string("parallel.tensor=1"), std::string("parallel.pipeline=1"), std::string("model.layers=1"),
        std::string("model.hidden=48"), std::string("model.sequence_length=32"), std::string("training.steps=5"),
        std::string("training.global_batch=8"), std::string("training.optimizer.warmup_steps=0"),
        std::string("training.optimizer.learning_rate=0.05"), std::string("model.lora.rank=4"),
        std::string("model.lora.on=UP"), std::string("model.lora.on+=DOWN"), "data.train=" + folder + "/tokens/train-*",
        "data.held_out=" + folder + "/tokens/held_out-*", "folder=" + folder + "/run"}) {
    words.insert(words.end(), {"--set", set});
  }
  const Ended trained = RunProgram(words);
  ASSERT_EQ(trained.status, 0) << trained.output;
  const auto merge = [&] {
    return RunProgram({Trefoil(), "merge", "--checkpoint=" + folder + "/run", "--output=" + folder + "/plain"});
  };
  const Ended merged = merge();
  ASSERT_EQ(merged.status, 0) << merged.output;
  EXPECT_EQ(Count(merged.output, "matrices  2 have their adapters added\n"), 1) << merged.output;
  const auto continued = [&](const std::string& run) {
    const Ended ended = WithoutSpeeds(RunProgram({Trefoil(), "generate", "--checkpoint=" + folder + "/" + run,
                                                  "--prompt=The 5", "--tokens=40", "--temperature=0"}));
    EXPECT_EQ(ended.status, 0) << ended.output;
    return ended.output;
  };
  EXPECT_EQ(continued("plain"), continued("run"));
  EXPECT_EQ(ReadText(folder + "/plain/tokenizer.model"), ReadText(folder + "/run/tokenizer.model"));
  EXPECT_EQ(Count(ReadText(folder + "/run/config.pbtxt"), "lora {"), 1);
  EXPECT_EQ(Count(ReadText(folder + "/plain/config.pbtxt"), "lora"), 0);

  const Ended again = merge();
  EXPECT_EQ(again.status, 1);
  EXPECT_EQ(again.output,
            "trefoil merge: --output: " + folder + "/plain has checkpoints already; give another folder\n");
  const Ended plain =
      RunProgram({Trefoil(), "merge", "--checkpoint=" + folder + "/plain", "--output=" + folder + "/other"});
  EXPECT_EQ(plain.status, 1);
  EXPECT_EQ(Count(plain.output, "is of a model without adapters (model.lora): there is nothing to merge"), 1)
      << plain.output;
}

}  // namespace
}  // namespace trefoil
