// `trefoil generate`, the real program, on a small model that is trained here.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;
using testing::TempDir;

struct Said {
  int status = 0;
  std::string out, err;
};

class Generate : public testing::Test {
 protected:
  static std::string Path(const std::string& name) { return TempDir() + "/" + name; }

  // Counts in words, over and over.
  static void SetUpTestSuite() {
    std::string text;
    const std::vector<std::string> words = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"};
    for (int i = 0; i < 4000; ++i) {
      text += words[static_cast<size_t>(i) % 10] + (i % 10 == 9 ? ".\n" : i % 3 == 0 ? ", " : " ");
      if (i % 400 == 399) text += "\n\n";
    }
    WriteText(Path("text.txt"), text);
    for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
             {Trefoil(), "tokenize", "--input=" + Path("text.txt"), "--output=" + Path("tokens"), "--vocabulary=300",
              "--held_out=0", "--overwrite"},
             {Trefoil(), "train", "--config=" + WriteConfig()}}) {
      const Ended ended = RunProgram(command);
      ASSERT_EQ(ended.status, 0) << ended.output;
    }
  }

  // In a shell, so that both outputs are apart.
  static Said Ask(const std::vector<std::string>& arguments, int ranks = 1, const std::string& input = "") {
    WriteText(Path("in"), input);
    std::vector<std::string> command = {Trefoil()};
    if (ranks > 1) command = OnRanks(ranks, {});
    std::string line;
    for (const std::string& word : command) absl::StrAppend(&line, "'", word, "' ");
    absl::StrAppend(&line, "generate '--checkpoint=", Path("run"), "'");
    for (const std::string& argument : arguments) absl::StrAppend(&line, " '", argument, "'");
    absl::StrAppend(&line, " < '", Path("in"), "' > '", Path("out"), "' 2> '", Path("err"), "'");
    const Ended ended = RunProgram({"/bin/sh", "-c", line});
    return {.status = ended.status, .out = ReadText(Path("out")), .err = ReadText(Path("err"))};
  }
  static std::string TextOf(const std::vector<std::string>& arguments, int ranks = 1, const std::string& input = "") {
    const Said said = Ask(arguments, ranks, input);
    EXPECT_EQ(said.status, 0) << said.err;
    EXPECT_EQ(Count(said.err, "trefoil generate: read "), 1) << said.err;
    return said.out;
  }

 private:
  static std::string WriteConfig() {
    WriteText(Path("run.pbtxt"),
              "folder: '" + EmptyFolder("run") +
                  "' model { family: LLAMA layers: 2 hidden: 32 heads: 4 kv_heads: 2 sequence_length: 48 } data { train: '" +
                  Path("tokens") + "/train-*' } training { steps: 60 global_batch: 16 precision: FP32 seed: 7 optimizer { "
                  "learning_rate: 1e-2 warmup_steps: 1 } }");
    return Path("run.pbtxt");
  }
};

// A layout, several prompts at once, or a context that ends change nothing of what is the likeliest.
TEST_F(Generate, TheLikeliestTextIsTheSameHoweverItIsComputed) {
  const std::vector<std::string> prompts = {"one, two", "seven, eight nine", "three"};
  std::vector<std::string> alone;
  for (const std::string& prompt : prompts) {
    alone.push_back(TextOf({"--prompt=" + prompt, "--temperature=0", "--tokens=20"}));
    EXPECT_EQ(alone.back().find(prompt), 0u);
    EXPECT_GT(alone.back().size(), prompt.size() + 20);
  }
  std::string together;
  for (size_t i = 0; i < prompts.size(); ++i) absl::StrAppend(&together, "--- prompt ", i + 1, " of 3\n", alone[i]);
  const std::vector<std::string> all = {"--prompt=" + prompts[0], "--prompt", prompts[1], "--prompt=" + prompts[2],
                                        "--temperature=0", "--tokens=20"};
  EXPECT_EQ(TextOf(all), together);
  std::vector<std::string> two_at_once = all;
  two_at_once.push_back("--batch=2");
  EXPECT_EQ(TextOf(two_at_once), together);
  std::vector<std::string> on_four = all;
  on_four.insert(on_four.end(), {"--tensor=2", "--pipeline=2"});
  EXPECT_EQ(TextOf(on_four, 4), together);
  WriteText(Path("prompts.txt"), absl::StrCat(prompts[0], "\n", prompts[1], "\r\n", prompts[2], "\n"));
  EXPECT_EQ(TextOf({"--prompts=" + Path("prompts.txt"), "--temperature=0", "--tokens=20"}), together);
  EXPECT_EQ(TextOf({"--prompts=-", "--temperature=0", "--tokens=20"}, 2, ReadText(Path("prompts.txt"))), together);
  // Beyond the 48 tokens of the context each is computed of the last ones: the beginning is the same.
  const std::string longer = TextOf({"--prompt=" + prompts[0], "--temperature=0", "--tokens=80"});
  EXPECT_EQ(longer.find(alone[0].substr(0, alone[0].size() - 1)), 0u) << longer;
}

TEST_F(Generate, ASampleHangsOnItsSeedAlone) {
  const std::vector<std::string> options = {"--prompt=one", "--temperature=1.5", "--top_p=1", "--tokens=12"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), options.begin(), options.end());
    return TextOf(more);
  };
  const std::string fifth = with({"--seed=5"}), sixth = with({"--seed=6"});
  EXPECT_NE(fifth, sixth);
  EXPECT_EQ(with({"--seed=5"}), fifth);
  EXPECT_EQ(with({"--seed=5", "--samples=2"}), "--- sample 1 of 2\n" + fifth + "--- sample 2 of 2\n" + sixth);
  EXPECT_EQ(with({"--seed=5", "--samples=2", "--batch=1"}), "--- sample 1 of 2\n" + fifth + "--- sample 2 of 2\n" + sixth);
  EXPECT_EQ(with({"--prompt=two", "--seed=6"}).find("--- prompt 1 of 2\n" + sixth), 0u);
}

TEST_F(Generate, StopsBeforeAStopString) {
  const std::vector<std::string> options = {"--prompt=one, two", "--temperature=0", "--tokens=24"};
  const std::string whole = TextOf(options), written = whole.substr(8);
  // Across tokens: a part of a word, a space, a part of the next.
  const size_t space = written.find(' ', 8);
  ASSERT_NE(space, std::string::npos);
  const std::string stop = written.substr(space - 2, 5), other = "nothing of the kind";
  std::vector<std::string> stopped = options;
  stopped.insert(stopped.end(), {"--stop=" + other, "--stop", stop});
  EXPECT_EQ(TextOf(stopped), "one, two" + written.substr(0, written.find(stop)) + "\n");
  stopped.push_back("--json");
  const Json json = Json::parse(TextOf(stopped));
  EXPECT_EQ(json["prompt"], "one, two");
  EXPECT_EQ(json["text"], written.substr(0, written.find(stop)));
  EXPECT_EQ(json["end"], "STOP");
  std::vector<std::string> limit = options;
  limit.push_back("--json");
  const Json cut = Json::parse(TextOf(limit));
  EXPECT_EQ(cut["end"], "LIMIT");
  EXPECT_EQ(cut["tokens"], 24);
}

// A line is read behind all that was said before; what is kept makes no difference.
TEST_F(Generate, ConversesLineByLine) {
  const std::vector<std::string> options = {"--interactive", "--temperature=0", "--tokens=5"};
  const std::string talk = TextOf(options, 1, "one, two\nseven, eight\n");
  EXPECT_EQ(TextOf(options, 2, "one, two\nseven, eight\n"), talk);
  const size_t end = talk.find('\n', talk.find_first_not_of('\n'));
  ASSERT_NE(end, std::string::npos);
  const std::string first = TextOf({"--prompt=one, two\n", "--temperature=0", "--tokens=5"}).substr(9);
  EXPECT_EQ(talk.find(first), 0u) << talk << "\n" << first;
  const std::string said = first.substr(0, first.size() - 1);
  const std::string second =
      TextOf({"--prompt=one, two\n" + said + "seven, eight\n", "--temperature=0", "--tokens=5"});
  EXPECT_EQ(talk, first + second.substr(9 + said.size() + 13)) << second;
  EXPECT_EQ(TextOf(options), "");
}

TEST_F(Generate, ChatsByTheTemplate) {
  const std::vector<std::string> options = {"--chat", "--temperature=0", "--tokens=8"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), options.begin(), options.end());
    return more;
  };
  const Said none = Ask(with({"--prompt=one"}));
  EXPECT_EQ(none.status, 2);
  EXPECT_EQ(none.err.find("trefoil generate: --chat: the tokenizer of " + Path("run") + " has no chat template; put one into"),
            0u) << none.err;
  WriteText(Path("run/chat_template.jinja"),
            "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            "{{ message.content }}, {% endfor %}");
  const std::string said = TextOf(with({"--prompt=one, two"}));
  EXPECT_GT(said.size(), 8u);
  EXPECT_NE(TextOf(with({"--prompt=seven, eight"})), said);
  WriteText(Path("chat.jsonl"), "{\"messages\": [{\"role\": \"user\", \"content\": \"one, two\"}]}\n");
  EXPECT_EQ(TextOf(with({"--prompts=" + Path("chat.jsonl")})), said);
  EXPECT_EQ(TextOf(with({"--interactive"}), 1, "one, two\n"), said);
  const Said refused = Ask(with({"--system=be brief", "--prompt=one"}));
  EXPECT_EQ(refused.err.find("trefoil generate: chat template, line 1: the template refuses this conversation: no system"), 0u)
      << refused.err;
  // A token of the file ends a text: here one that comes in it.
  WriteText(Path("run/generation_config.json"), "{\"eos_token_id\": [1, 999999]}");
  EXPECT_EQ(Ask({"--prompt=one"}).err, "trefoil generate: " + Path("run") +
                                           "/generation_config.json: eos_token_id: 999999, must be a token below 300\n");
  std::string all;
  for (int id = 0; id < 300; ++id) all += (id > 0 ? "," : "") + std::to_string(id);
  WriteText(Path("run/generation_config.json"), "{\"eos_token_id\": [" + all + "]}");
  EXPECT_EQ(TextOf({"--prompt=one"}), "one\n");
  std::filesystem::remove(Path("run/generation_config.json"));
  std::filesystem::remove(Path("run/chat_template.jinja"));
}

TEST_F(Generate, RefusesWhatItCannotDo) {
  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& message, int ranks = 1) {
    const Said said = Ask(arguments, ranks);
    EXPECT_NE(said.status, 0);
    EXPECT_EQ(said.out, "");
    EXPECT_EQ(Count(said.err, "trefoil generate: "), 1) << said.err;
    EXPECT_EQ(said.err.find("trefoil generate: " + message), 0u) << said.err;
  };
  refused({"--tensor=3"}, "--tensor x --pipeline: 3 x 1 = 3, but there is 1 rank; nearest legal: 3 ranks (trefoil launch -n 3 "
                          "-- ...)\nmodel.heads: 4 is not a multiple of --tensor 3; nearest tensor sizes that divide");
  refused({"--precision=fp8", "--pipeline=-1"}, "--precision: fp8, must be FP32 or BF16\n--pipeline: -1, must be at least 1");
  refused({"a prompt"}, "'a prompt': no flag; give a text with --prompt='...'");
  refused({"--prompt=a", "--prompts=b"}, "--prompts: prompts are given by --prompt as well; leave one out");
  refused({"--prompts=" + Path("missing")}, Path("missing"));
  refused({"--stop="}, "--stop: empty; give a text at which to stop");
  refused({"--interactive", "--samples=2"}, "--samples: is of several texts, --interactive of one; leave one out");
  refused({"--samples=2", "--temperature=0"}, "--samples: chooses among tokens, and --temperature=0 takes the likeliest");
  WriteText(Path("bad.jsonl"), "{\"prompt\": \"a\"}\n{\"question\": \"a\"}\n");
  refused({"--prompts=" + Path("bad.jsonl")}, Path("bad.jsonl") + ": line 2: has none of the fields \"prompt\", ");
}

}  // namespace
}  // namespace trefoil
