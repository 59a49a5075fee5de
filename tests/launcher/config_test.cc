#include "launcher/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

namespace trefoil {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string WriteConfig(const std::string& text) {
  const std::string path = testing::TempDir() + "/run.pbtxt";
  std::ofstream(path) << text;
  return path;
}

absl::StatusOr<RunConfig> Read(const std::string& text, const std::vector<std::string>& sets = {}) {
  return ReadConfig(FileSystem::Posix(), WriteConfig(text), sets);
}

// The lines of what is wrong, the file's folder left out.
std::vector<std::string> Problems(const std::string& text, const std::vector<std::string>& sets = {}) {
  const auto config = Read(text, sets);
  std::vector<std::string> lines;
  if (config.ok()) return lines;
  std::istringstream message{std::string(config.status().message())};
  for (std::string line; std::getline(message, line);) {
    const size_t at = line.find("run.pbtxt");
    lines.push_back(at == std::string::npos ? line : line.substr(at));
  }
  return lines;
}

RunConfig Set(const std::vector<std::string>& sets) {
  const auto config = Read("model { layers: 3 family: GPT } data { train: 'a' train: 'b' }", sets);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.value_or(RunConfig());
}

TEST(ReadConfigTest, ReadsTextFormat) {
  const auto config = Read("# comment\nfolder: 'runs/x'\nmodel { family: LLAMA layers: 3 }\n"
                           "training { optimizer { beta1: 0 } }\ndata { train: ['a', 'b'] }");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->folder(), "runs/x");
  EXPECT_EQ(config->model().family(), ModelConfig::LLAMA);
  EXPECT_TRUE(config->training().optimizer().has_beta1());
  EXPECT_FALSE(config->training().optimizer().has_beta2());
  EXPECT_THAT(config->data().train(), ElementsAre("a", "b"));
  EXPECT_TRUE(Read("").ok());
}

TEST(ReadConfigTest, ConfigTextReadsBack) {
  const RunConfig config = Set({"folder=a \"quoted\" name", "training.optimizer.beta1=0", "data.seed=7"});
  const auto again = Read(ConfigText(config));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->SerializeAsString(), config.SerializeAsString());
}

TEST(ReadConfigTest, NamesAnUnknownFieldWithTheNearest) {
  EXPECT_THAT(Problems("folder: 'x'\n\nmodel {\n\tlayers: 3\n\thiden: 96\n}"),
              ElementsAre("run.pbtxt:5: model has no field 'hiden'; did you mean 'hidden'?"));
  EXPECT_THAT(Problems("modle { layers: 3 }"),
              ElementsAre("run.pbtxt:1: the config has no field 'modle'; did you mean 'model'?"));
  EXPECT_THAT(Problems("runtime { xyzzy: 1 }"),
              ElementsAre("run.pbtxt:1: runtime has no field 'xyzzy'; its fields: threads, timeout_seconds, device, "
                          "allow_shared_device, messages, attention, graphs, memory_limit_gib, startup_timeout_seconds, "
                          "save_timeout_seconds, bf16_products, sums"));
  EXPECT_THAT(Problems("model {\n  hiden\n  : 3\n}"), ElementsAre(HasSubstr("run.pbtxt:2: model has no field")));
  EXPECT_THAT(Problems("training { optimizer { learning_rat: 1 } }"),
              ElementsAre(HasSubstr("training.optimizer has no field 'learning_rat'; did you mean 'learning_rate'?")));
}

TEST(ReadConfigTest, NamesABadChoiceWithTheLegalOnes) {
  EXPECT_THAT(Problems("parallel {\n  schedule: FAST\n  chunks: 2\n}"),
              ElementsAre("run.pbtxt:2: parallel.schedule: 'FAST' is not one of GPIPE, ONE_F_ONE_B, INTERLEAVED, "
                          "ZB_H1, ZB_H2, ZB_V, DUALPIPE_V, AUTO"));
}

TEST(ReadConfigTest, NamesAValueOfTheWrongType) {
  EXPECT_THAT(Problems("model { layers: 'three' }"), ElementsAre(HasSubstr("run.pbtxt:1: model.layers: ''three'' is")));
  EXPECT_THAT(Problems("model { layers: 3.5 }"), ElementsAre(HasSubstr("model.layers: '3.5' is not a whole number")));
  EXPECT_THAT(Problems("model { layers: 3000000000 }"), ElementsAre(HasSubstr("model.layers: '3000000000' is not")));
  EXPECT_THAT(Problems("model { dropout: high }"), ElementsAre(HasSubstr("model.dropout: 'high' is not a number")));
  EXPECT_THAT(Problems("parallel { sequence_parallel: maybe\n}"),
              ElementsAre("run.pbtxt:1: parallel.sequence_parallel: 'maybe' is neither true nor false"));
  EXPECT_THAT(Problems("folder: runs"), ElementsAre(HasSubstr("folder: 'runs' is not a text in quotes")));
  EXPECT_THAT(Problems("data { train: [b] }"), ElementsAre(HasSubstr("data.train: 'b' is not a text in quotes")));
  EXPECT_THAT(Problems("model {\n\tlayers: many hidden: 4\n}"), ElementsAre(HasSubstr("2: model.layers: 'many' is")));
  EXPECT_THAT(Problems("data { train: ['a', b] }"), ElementsAre(HasSubstr("data.train: 'b' is not a text in quotes")));
}

TEST(ReadConfigTest, ListsAllProblemsOfFileAndSetsAtOnce) {
  EXPECT_THAT(Problems("folder: runs  # no quotes: { \"\nmodel {\n  hiden: 4 layers: many\n  family: LAMA\n}\n"
                       "paralel { tensor: 2 nothing_known: in_here }\ntraining { steps: 1 optimizer { beta1: x } }",
                       {"model.layer=2", "parallel.zero=all"}),
              ElementsAre("run.pbtxt:1: folder: 'runs' is not a text in quotes",
                          "run.pbtxt:3: model has no field 'hiden'; did you mean 'hidden'?",
                          HasSubstr("run.pbtxt:3: model.layers: 'many' is not a whole number"),
                          "run.pbtxt:4: model.family: 'LAMA' is not one of GPT, LLAMA, BERT, MODERN_BERT, TRANSFORMER, T5, VIT, RNN, "
                          "LSTM",
                          "run.pbtxt:6: the config has no field 'paralel'; did you mean 'parallel'?",
                          "run.pbtxt:7: training.optimizer.beta1: 'x' is not a number",
                          "--set model.layer=2: model has no field 'layer'; did you mean 'layers'?",
                          "--set parallel.zero=all: 'all' is not one of NONE, OPTIMIZER, GRADIENTS, WEIGHTS"));
}

TEST(ReadConfigTest, MistakesOfSyntaxNameTheirLine) {
  EXPECT_THAT(Problems("model {\n  layers: 3\n"), ElementsAre(HasSubstr("run.pbtxt:3: ")));
  EXPECT_THAT(Problems("model { layers: 3 }\n}"), ElementsAre(HasSubstr("run.pbtxt:2: ")));
  EXPECT_THAT(Problems("model { layers: }"), ElementsAre(HasSubstr("run.pbtxt:1: ")));
  EXPECT_THAT(Problems("folder: 'x\nmodel { layers: 3 }"), testing::Not(IsEmpty()));
  EXPECT_THAT(Problems("model: 3"), testing::Not(IsEmpty()));
  EXPECT_THAT(Problems("just words"), testing::Not(IsEmpty()));
  EXPECT_THAT(Problems("folder: 'x' folder: 'y'"), testing::Not(IsEmpty()));
}

TEST(ReadConfigTest, AMissingFileIsNamed) {
  const auto config = ReadConfig(FileSystem::Posix(), "gpt2_124mm", {});
  EXPECT_THAT(config.status().message(), HasSubstr("'gpt2_124mm' is neither a file nor a preset; did you mean "
                                                   "'gpt2_124m'?"));
  EXPECT_THAT(ReadConfig(FileSystem::Posix(), "", {}).status().message(), HasSubstr("--config: empty"));
}

TEST(ReadConfigTest, APresetIsReadByItsName) {
  const auto config = ReadConfig(FileSystem::Posix(), "gpt2_124m", {"model.layers=2"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model().hidden(), 768);
  EXPECT_EQ(config->model().layers(), 2);
}

TEST(SetTest, SetsEveryTypeByPath) {
  const RunConfig config =
      Set({"model.layers=5", "model.dropout=0.25", "parallel.sequence_parallel=true", "folder=runs/a=b c",
           "parallel.schedule=interleaved", "training.seed=18446744073709551615", "training.optimizer.beta1=0",
           "training.optimizer.learning_rate=3e-4"});
  EXPECT_EQ(config.model().layers(), 5);
  EXPECT_EQ(config.model().family(), ModelConfig::GPT);
  EXPECT_EQ(config.model().dropout(), 0.25f);
  EXPECT_TRUE(config.parallel().sequence_parallel());
  EXPECT_EQ(config.folder(), "runs/a=b c");
  EXPECT_EQ(config.parallel().schedule(), ParallelConfig::INTERLEAVED);
  EXPECT_EQ(config.training().seed(), 18446744073709551615u);
  EXPECT_TRUE(config.training().optimizer().has_beta1());
  EXPECT_EQ(config.training().optimizer().learning_rate(), 3e-4f);
}

TEST(SetTest, ListsAreReplacedOrExtended) {
  EXPECT_THAT(Set({"data.train=c"}).data().train(), ElementsAre("c"));
  EXPECT_THAT(Set({"data.train+=c"}).data().train(), ElementsAre("a", "b", "c"));
  EXPECT_THAT(Set({"data.train=c", "data.train+=d"}).data().train(), ElementsAre("c", "d"));
  EXPECT_THAT(Set({"data.train="}).data().train(), IsEmpty());
}

TEST(SetTest, MergesTextIntoNestedMessages) {
  const RunConfig config = Set({"model=layers: 7 hidden: 8", "training.optimizer=beta1: 0.5"});
  EXPECT_EQ(config.model().layers(), 7);
  EXPECT_EQ(config.model().hidden(), 8);
  EXPECT_EQ(config.model().family(), ModelConfig::GPT);
  EXPECT_EQ(config.training().optimizer().beta1(), 0.5f);
}

TEST(SetTest, ProblemsNameTheSet) {
  const auto problem = [](const std::string& set) { return Problems("", {set}); };
  EXPECT_THAT(problem("model.hiden=3"),
              ElementsAre("--set model.hiden=3: model has no field 'hiden'; did you mean 'hidden'?"));
  EXPECT_THAT(problem("layers=3"), ElementsAre(HasSubstr("--set layers=3: the config has no field 'layers'")));
  EXPECT_THAT(problem("model.layers=two"), ElementsAre(HasSubstr("--set model.layers=two: 'two' is not a whole")));
  EXPECT_THAT(problem("model.layers=3000000000"), ElementsAre(HasSubstr("is not a whole number")));
  EXPECT_THAT(problem("model.layers="), ElementsAre(HasSubstr("'' is not a whole number")));
  EXPECT_THAT(problem("training.seed=-1"), ElementsAre(HasSubstr("is not a whole number from 0")));
  EXPECT_THAT(problem("parallel.sequence_parallel=maybe"), ElementsAre(HasSubstr("'maybe' is neither true nor false")));
  EXPECT_THAT(problem("model.family=family_unset"), ElementsAre(HasSubstr("is not one of GPT, LLAMA")));
  EXPECT_THAT(problem("parallel.tensor"), ElementsAre(HasSubstr("must be PATH=VALUE")));
  EXPECT_THAT(problem("=3"), ElementsAre(HasSubstr("must be PATH=VALUE")));
  EXPECT_THAT(problem("model.layers.x=3"), ElementsAre(HasSubstr("model.layers is a value and has no fields")));
  EXPECT_THAT(problem("model.layers+=3"), ElementsAre(HasSubstr("model.layers is not a list")));
  EXPECT_THAT(problem("model=hiden: 3 layers: x"),
              ElementsAre("--set model:1: model has no field 'hiden'; did you mean 'hidden'?",
                          HasSubstr("--set model:1: model.layers: 'x' is not a whole number")));
}

TEST(TakeSetsTest, TakesBothFormsInOrderAndLeavesTheRest) {
  std::vector<std::string> words = {"train", "--set", "a=1", "--config=x", "--set=b=2",
                                    "-set",  "c=3",   "--",  "--set",      "d"};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int argc = static_cast<int>(words.size());
  const auto sets = TakeSets(&argc, argv.data());
  ASSERT_TRUE(sets.ok());
  EXPECT_THAT(*sets, ElementsAre("a=1", "b=2", "c=3"));
  EXPECT_THAT(std::vector<std::string>(argv.begin(), argv.begin() + argc),
              ElementsAre("train", "--config=x", "--", "--set", "d"));

  std::string last = "--set";
  char* only[] = {last.data(), nullptr};
  int one = 1;
  EXPECT_THAT(TakeSets(&one, only).status().message(), HasSubstr("--set: nothing follows"));
}

}  // namespace
}  // namespace trefoil
