#include "launcher/help.h"

#include <gflags/gflags.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "runtime/version.h"

DEFINE_string(input, "corpus", "What to read.");
DEFINE_int32(count, 3, "How many.");
DEFINE_bool(fast, true, "Whether to hurry.");

namespace trefoil {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

std::vector<std::string> last_arguments;

int Remember(int argc, char** argv) {
  last_arguments.assign(argv, argv + argc);
  return 7;
}

const std::vector<Command> kCommands = {
    {.name = "read",
     .summary = "Read things.",
     .examples = "  trefoil read --input=x\n",
     .flag_files = {"tests/launcher/help_test.cc"},
     .sets = true,
     .main = Remember},
    {.name = "bare", .summary = "Take no flags.", .examples = "  trefoil bare\n", .flag_files = {}, .main = Remember},
    {.name = "around",
     .summary = "Run another program.",
     .examples = "  trefoil around x\n",
     .flag_files = {"tests/launcher/help_test.cc"},
     .word_ends_flags = true,
     .main = Remember},
};

struct Result {
  int status;
  std::string out, err;
};

Result Perform(std::vector<std::string> words) {
  gflags::FlagSaver restore;
  last_arguments.clear();
  words.insert(words.begin(), "trefoil");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::ostringstream out, err;
  const int status = Dispatch(kCommands, static_cast<int>(words.size()), argv.data(), out, err);
  return {status, out.str(), err.str()};
}

// The values that the flags have while a command runs.
std::string seen;
int See(int, char**) {
  seen = FLAGS_input + " " + std::to_string(FLAGS_count) + (FLAGS_fast ? " fast" : " slow");
  return 0;
}

std::string FlagValues(std::vector<std::string> words) {
  gflags::FlagSaver restore;
  std::vector<Command> commands = kCommands;
  commands[0].main = See;
  words.insert(words.begin(), {"trefoil", "read"});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::ostringstream out, err;
  EXPECT_EQ(Dispatch(commands, static_cast<int>(words.size()), argv.data(), out, err), 0) << err.str();
  return seen;
}

TEST(DispatchTest, RunsTheCommandAndReturnsItsStatus) {
  EXPECT_EQ(Perform({"bare", "word"}).status, 7);
  EXPECT_THAT(last_arguments, ElementsAre("bare", "word"));
}

TEST(DispatchTest, NoArgumentsOrHelpListsTheCommands) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{}, {"help"}, {"--help"}, {"-h"}}) {
    const Result result = Perform(words);
    EXPECT_EQ(result.status, 0);
    EXPECT_THAT(result.out, AllOf(HasSubstr("trefoil COMMAND"), HasSubstr("  read    Read things.\n"),
                                  HasSubstr("  around  Run another program.\n"), Not(HasSubstr("logtostderr"))));
  }
  EXPECT_THAT(last_arguments, IsEmpty());
}

TEST(DispatchTest, TheVersionIsOneLine) {
  const Result result = Perform({"--version"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "trefoil " + VersionText() + "\n");
  EXPECT_THAT(Perform({"help"}).out, HasSubstr(BuildId()));
}

TEST(DispatchTest, HelpOfACommandShowsItsFlagsOnly) {
  const std::vector<std::vector<std::string>> forms = {{"help", "read"}, {"read", "--count=2", "-h"}};
  for (const std::vector<std::string>& words : forms) {
    const Result result = Perform(words);
    EXPECT_EQ(result.status, 0);
    EXPECT_THAT(result.out, AllOf(HasSubstr("  trefoil read --input=x\n"),
                                  HasSubstr("--input (a text; default \"corpus\")"),
                                  HasSubstr("--count (a whole number; default 3)\n      How many."),
                                  HasSubstr("--set PATH=VALUE"), Not(HasSubstr("logtostderr"))));
  }
  EXPECT_THAT(Perform({"bare", "--help"}).out, AllOf(HasSubstr("trefoil bare"), Not(HasSubstr("--"))));
  EXPECT_THAT(last_arguments, IsEmpty());
}

TEST(DispatchTest, AnUnknownCommandNamesTheNearest) {
  EXPECT_EQ(Perform({"raed"}).status, 2);
  EXPECT_EQ(Perform({"raed"}).err, "trefoil: no command 'raed'; did you mean 'read'?\n");
  EXPECT_EQ(Perform({"help", "raed"}).status, 2);
  EXPECT_THAT(Perform({"xyzxyz"}).err, HasSubstr("commands: help, read, bare, around"));
}

TEST(DispatchTest, AnUnknownFlagNamesTheNearestAndNothingRuns) {
  const Result result = Perform({"read", "--inptu=x"});
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err, "trefoil read: no flag '--inptu'; did you mean '--input'? `trefoil help read` lists them\n");
  // A flag of another command, though gflags knows it.
  EXPECT_EQ(Perform({"bare", "--input=x"}).err, "trefoil bare: no flag '--input'; `trefoil help bare` lists them\n");
  EXPECT_EQ(Perform({"bare", "--set", "a=1"}).status, 2);
  EXPECT_THAT(last_arguments, IsEmpty());
}

TEST(DispatchTest, AWrongOrMissingValueIsAnError) {
  EXPECT_EQ(Perform({"read", "--count=many"}).err, "trefoil read: --count: 'many' is not a whole number\n");
  EXPECT_EQ(Perform({"read", "--count"}).err, "trefoil read: --count: nothing follows; give a whole number\n");
  EXPECT_EQ(Perform({"read", "--fast=perhaps"}).status, 2);
  EXPECT_THAT(last_arguments, IsEmpty());
}

TEST(DispatchTest, FlagsComeInEveryUsualForm) {
  EXPECT_EQ(FlagValues({}), "corpus 3 fast");
  EXPECT_EQ(FlagValues({"--input=a=b", "--count", "5", "--nofast"}), "a=b 5 slow");
  EXPECT_EQ(FlagValues({"-input", "x", "-count=-1", "--fast=false"}), "x -1 slow");
  EXPECT_EQ(FlagValues({"--input=", "--fast"}), " 3 fast");
  EXPECT_EQ(FlagValues({"--", "--count=9"}), "corpus 3 fast");
}

TEST(DispatchTest, SetsAndWordsStayForTheCommand) {
  Perform({"read", "--set", "a=1", "word", "--count=2", "--set=b=2", "--", "--input"});
  EXPECT_THAT(last_arguments, ElementsAre("read", "--set", "a=1", "word", "--set=b=2", "--input"));
}

TEST(DispatchTest, AnotherProgramKeepsItsFlags) {
  for (const char* separator : {"--", ""}) {
    std::vector<std::string> words = {"around", "--count=2", separator, "train", "--count=9", "--help", "--", "x"};
    if (*separator == '\0') words.erase(words.begin() + 2);
    EXPECT_EQ(Perform(words).status, 7);
    EXPECT_THAT(last_arguments, ElementsAre("around", "train", "--count=9", "--help", "--", "x"));
  }
}

TEST(FlagListTest, NamesAndTypes) {
  EXPECT_THAT(FlagList(kCommands[0]), ElementsAre("count int32", "fast bool", "input string", "set PATH=VALUE"));
  EXPECT_THAT(FlagList(kCommands[1]), IsEmpty());
}

}  // namespace
}  // namespace trefoil
