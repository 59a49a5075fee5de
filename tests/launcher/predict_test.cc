// `trefoil predict`, the real program: small networks of each task are trained for a few steps and asked. What it
// scores on held-out records and images is what training has measured on them. `trefoil explain` looks into the same
// runs.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;
using testing::TempDir;

// A program's two outputs, apart.
struct Said {
  int status;
  std::string out, err;
  std::vector<std::string> lines() const {
    std::vector<std::string> lines = absl::StrSplit(out, '\n');
    lines.pop_back();
    return lines;
  }
};

class Predict : public testing::Test {
 protected:
  static std::string Path(const std::string& name) { return TempDir() + "/" + name; }

  // Next of a row of numbers.
  static unsigned Random(unsigned below) {
    static unsigned state = 1;
    state = state * 1103515245 + 12345;
    return (state >> 16) % below;
  }
  static std::string Word() {
    static const char* words[] = {"eins", "zwei", "drei", "vier", "rot", "blau", "haus", "hund", "katze", "baum"};
    return words[Random(10)];
  }
  static std::string Words(unsigned count) {
    std::string text = Word();
    while (--count > 0) text += " " + Word();
    return text;
  }

  // Records of what `line` says of a text, in Path(name) and tokenized.
  static void MakeRecords(const std::string& name, const std::string& kind, int count,
                          const std::function<Json(const std::string& text)>& line) {
    std::ofstream file(Path(name + ".jsonl"));
    for (int i = 0; i < count; ++i) file << line(Words(2 + Random(5))).dump() << "\n";
    file.close();
    Tokenize(name, {"--input=" + Path(name + ".jsonl"), "--records=" + kind});
  }
  static void Tokenize(const std::string& name, std::vector<std::string> arguments) {
    std::filesystem::remove_all(Path(name));
    arguments.insert(arguments.begin(), {Trefoil(), "tokenize"});
    arguments.insert(arguments.end(), {"--output=" + Path(name), "--vocabulary=300", "--held_out=0.2"});
    const Ended ended = RunProgram(arguments);
    ASSERT_EQ(ended.status, 0) << ended.output;
  }
  // A run of its own on Path(data); its folder.
  static std::string Train(const std::string& name, const std::string& data, const std::string& model,
                           const std::string& task, int steps) {
    const std::string folder = EmptyFolder(name) + "/run";
    WriteText(Path(name + ".pbtxt"),
              "folder: '" + folder + "' model { " + model + " } task { " + task + " } data { train: '" + Path(data) +
                  "/train-*' held_out: '" + Path(data) + "/held_out-*' } training { steps: " + std::to_string(steps) +
                  " global_batch: 16 micro_batch: 16 precision: FP32 evaluate_samples: 100000 seed: 7 optimizer { "
                  "learning_rate: 3e-3 warmup_steps: 1 } }");
    const Ended ended = RunProgram({Trefoil(), "train", "--config=" + Path(name + ".pbtxt")});
    EXPECT_EQ(ended.status, 0) << ended.output;
    return folder;
  }
  static double HeldOut(const std::string& folder, const std::string& what) {
    const std::vector<std::string> lines = absl::StrSplit(ReadText(folder + "/metrics.jsonl"), '\n');
    return Json::parse(lines[lines.size() - 2])["held_out_" + what].get<double>();
  }

  static Said Ask(const std::string& folder, std::vector<std::string> arguments,
                  const std::string& input = "/dev/null") {
    std::string command = "'" + Trefoil() + "' predict --checkpoint='" + folder + "'";
    for (const std::string& argument : arguments) command += " '" + argument + "'";
    command += " < '" + input + "' > '" + Path("out") + "' 2> '" + Path("err") + "'";
    const Ended ended = RunProgram({"/bin/sh", "-c", command});
    return {ended.status, ReadText(Path("out")), ReadText(Path("err"))};
  }
  static Ended Explain(const std::string& folder, const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {Trefoil(), "explain", "--checkpoint=" + folder};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return RunProgram(command);
  }
  static void ExpectNotExplained(const Ended& ended, const std::string& message) {
    EXPECT_NE(ended.status, 0);
    EXPECT_EQ(ended.output, "trefoil explain: " + message + "\n");
  }
  // Maps of the layers named, of `heads` each, from `queries` to `keys`: weights that are not negative and 1 in all.
  static void ExpectMaps(const Json& shown, const std::vector<std::string>& layers, size_t heads, size_t queries,
                         size_t keys) {
    size_t maps = 0;
    for (const Json& map : shown["maps"]) {
      const std::string layer = map["layer"];
      if (std::find(layers.begin(), layers.end(), layer) == layers.end()) continue;
      ++maps;
      ASSERT_EQ(map["weights"].size(), queries) << layer;
      for (const Json& row : map["weights"]) {
        ASSERT_EQ(row.size(), keys) << layer;
        double sum = 0;
        for (const double weight : row) {
          EXPECT_GE(weight, 0);
          sum += weight;
        }
        EXPECT_NEAR(sum, 1, 1e-5);
      }
    }
    EXPECT_EQ(maps, layers.size() * heads);
  }

  // What it knows it is measured to know, on one rank as on two; what is wrong is refused.
  static void ExpectEvaluated(const std::string& run) {
    WriteText(Path("articles.jsonl"),
              "{\"context\": \"der rote haus die\", \"choices\": [\"rote\", \"blaue\"], \"answer\": 1}\n"
              "{\"context\": \"die blaue hund der\", \"choices\": [\"rote\", \"blaue\"], \"answer\": 0}\n"
              "{\"context\": \"die blaue hund\", \"choices\": [\"die\", \"der\"], \"answer\": \"1\"}\n");
    const std::string tasks = "--task=" + Path("articles.jsonl") + "," + Path("text.txt"), out = Path("evaluated");
    const auto evaluate = [&](int ranks, std::vector<std::string> more) {
      std::filesystem::remove(out);
      more.insert(more.begin(), {"evaluate", "--checkpoint=" + run, "--output=" + out});
      return RunProgram(OnRanks(ranks, more));
    };
    const Ended one = evaluate(1, {tasks});
    ASSERT_EQ(one.status, 0) << one.output;
    EXPECT_EQ(Count(one.output, "multiple_choice"), 1) << one.output;
    EXPECT_EQ(Count(one.output, " of 3\n"), 3) << one.output;
    const Json results = Json::parse(ReadText(out));
    ASSERT_EQ(results["tasks"].size(), 2u);
    EXPECT_EQ(results["begin"], "<|endoftext|>") << results;
    EXPECT_EQ(results["tasks"][0]["metrics"]["acc"]["right"], 3) << results;
    const Json perplexities = results["tasks"][1]["metrics"];
    EXPECT_NEAR(std::log2(perplexities["byte_perplexity"]["value"].get<double>()),
                perplexities["bits_per_byte"]["value"].get<double>(), 1e-9);
    EXPECT_LT(perplexities["bits_per_byte"]["value"], 2) << results;
    const Ended two = evaluate(2, {tasks, "--batch_tokens=100"});
    ASSERT_EQ(two.status, 0) << two.output;
    const Json same = Json::parse(ReadText(out));
    EXPECT_EQ(same["tasks"][0], results["tasks"][0]);
    EXPECT_NEAR(same["tasks"][1]["metrics"]["token_perplexity"]["value"].get<double>(),
                perplexities["token_perplexity"]["value"].get<double>(), 1e-4);
    // Other windows, the same tokens.
    ASSERT_EQ(evaluate(1, {"--task=" + Path("text.txt"), "--stride=4"}).status, 0);
    const Json strided = Json::parse(ReadText(out))["tasks"][0];
    EXPECT_EQ(strided["tokens"], results["tasks"][1]["tokens"]);
    EXPECT_NE(strided["metrics"]["token_perplexity"], perplexities["token_perplexity"]);
    for (const auto& [flag, message] : std::vector<std::pair<std::string, std::string>>{
             {"--stride=25", "--stride: 25, more than the 24 tokens that the model reads; nearest legal: 24"},
             {"--begin=X", "--begin: X, must be AUTO, END_OF_TEXT or NONE"},
             {"--task=quiz:a",
              "--task: quiz:a: quiz is no kind of task; the kinds are perplexity, multiple_choice, last_word, "
              "classification"}}) {
      const Ended refused = evaluate(1, {tasks, flag});
      EXPECT_NE(refused.status, 0);
      EXPECT_EQ(Count(refused.output, "trefoil evaluate: " + message + "\n"), 1) << refused.output;
    }
  }

  static void ExpectRefused(const Said& said, const std::string& message) {
    EXPECT_NE(said.status, 0);
    EXPECT_EQ(said.out, "");
    EXPECT_EQ(said.err, "trefoil predict: " + message + "\n");
  }
  static std::vector<Json> Parsed(const Said& said) {
    std::vector<Json> lines;
    for (const std::string& line : said.lines()) lines.push_back(Json::parse(line));
    return lines;
  }
  // "accuracy 0.5 = 3 of 6", perhaps behind a note of texts that are cut, as in training.
  static void ExpectAccuracy(const Said& said, double share) {
    std::smatch found;
    ASSERT_TRUE(std::regex_match(
        said.err, found,
        std::regex("(?:trefoil predict: note: .* cut .*\n)?accuracy ([0-9.]+) = ([0-9]+) of ([0-9]+)\n")))
        << said.err;
    EXPECT_NEAR(std::stod(found[2]) / std::stod(found[3]), share, 1e-9);
    EXPECT_GT(share, 0.4);
    EXPECT_LT(share, 1) << "nothing is shown by what is always right";
  }
};

constexpr char kBert[] = "family: BERT layers: 1 hidden: 32 heads: 2 sequence_length: 24";

// The words of a text in reverse order.
Json Pair(const std::string& text) {
  std::string target;
  for (const auto& word : std::vector<std::string>(absl::StrSplit(text, ' '))) {
    target = word + (target.empty() ? "" : " " + target);
  }
  return {{"source", text}, {"target", target}};
}

TEST_F(Predict, Translations) {
  MakeRecords("pairs", "pairs", 600, Pair);
  const std::string run =
      Train("translation", "pairs", "family: TRANSFORMER layers: 1 hidden: 32 heads: 2 sequence_length: 32", "", 150);
  const std::string held_out = Path("pairs") + "/held_out-*";
  const Said said = Ask(run, {held_out});
  ASSERT_EQ(said.status, 0) << said.err;
  std::smatch found;
  ASSERT_TRUE(std::regex_match(
      said.err, found,
      std::regex("BLEU   ([0-9.]+) = [^;]*, ([0-9]+) texts; nrefs:1\\|case:mixed\\|eff:no\\|tok:13a\\|smooth:exp\n"
                 "chrF2  ([0-9.]+); nrefs:1\\|case:mixed\\|eff:yes\\|nc:6\\|nw:0\\|space:no\n")))
      << said.err;
  EXPECT_GT(std::stod(found[1]), 5);
  EXPECT_EQ(std::to_string(said.lines().size()), found[2].str());

  // The same in JSON, whatever the batch; and of the sources as lines, without scores.
  const std::vector<Json> lines = Parsed(Ask(run, {held_out, "--json", "--batch=7", "--top=3"}));
  ASSERT_EQ(lines.size(), said.lines().size());
  std::string sources;
  for (size_t i = 0; i < lines.size(); ++i) {
    const Json& predictions = lines[i]["predictions"];
    ASSERT_EQ(predictions.size(), 3u);
    EXPECT_EQ(predictions[0]["text"], said.lines()[i]);
    EXPECT_GE(predictions[0]["score"], predictions[1]["score"]);
    EXPECT_TRUE(predictions[0]["ended"]);
    const std::string source = lines[i]["input"], target = lines[i]["reference"];
    EXPECT_EQ(Pair(source)["target"], target);
    sources += source + "\r\n";
  }
  WriteText(Path("sources"), sources);
  const Said plain = Ask(run, {"--input=" + Path("sources"), "--batch=50"});
  EXPECT_EQ(plain.out, said.out);
  EXPECT_EQ(plain.err, "");
  const Said piped = Ask(run, {"-"}, Path("sources"));
  EXPECT_EQ(piped.out, said.out);
  // A file of output, which is there whole or not at all.
  const std::string file = Path("translations");
  std::filesystem::remove(file);
  EXPECT_EQ(Ask(run, {Path("sources"), "--output=" + file}).out, "");
  EXPECT_EQ(ReadText(file), said.out);
  ExpectRefused(Ask(run, {Path("sources"), "--output=" + file}), "--output: " + file + " is there already");

  // Greedy is another search.
  const Said greedy = Ask(run, {held_out, "--beam=1", "--length_penalty=0"});
  EXPECT_EQ(greedy.lines().size(), said.lines().size());
  EXPECT_NE(greedy.out, said.out);
  // Two of each, numbered.
  const Said two = Ask(run, {"--text=eins zwei", "--top=2"});
  ASSERT_EQ(two.lines().size(), 2u) << two.out;
  EXPECT_EQ(two.lines()[1].substr(0, 3), "1\t-");
  const Said cut = Ask(run, {"--text=" + Words(40), "--tokens=3"});
  EXPECT_EQ(cut.status, 0);
  EXPECT_EQ(Count(cut.err, "note: 1 text is cut to the 31 tokens that the model reads, the first --text, which has "),
            1)
      << cut.err;

  const Ended explained = Explain(run, {"--show=attention", "--text=eins zwei"});
  ASSERT_EQ(explained.status, 0) << explained.output;
  const Json shown = Json::parse(explained.output);
  EXPECT_EQ(shown["translation"], Ask(run, {"--text=eins zwei", "--beam=1"}).lines().at(0));
  EXPECT_EQ(shown["tokens"].back(), "[end]");
  const size_t read = shown["tokens"].size(), written = shown["written"].size();
  ExpectMaps(shown, {"blocks.0.attention"}, 2, read, read);
  ExpectMaps(shown, {"decoder.blocks.0.attention"}, 2, written, written);
  ExpectMaps(shown, {"decoder.blocks.0.cross"}, 2, written, read);
  ExpectNotExplained(Explain(run, {"--show=losses"}),
                     "--checkpoint: " + run +
                         "/checkpoints/step-00000150 was trained for TRANSLATION; losses and gradients by "
                         "place are of NEXT_TOKEN and ANSWERS");
  ExpectNotExplained(Explain(run, {"--show=attention"}),
                     "--text: missing; give a text, or --image a picture, to show the attention of");

  ExpectRefused(Ask(run, {}), "--input: missing; give files, or a text with --text");
  const Ended generate = RunProgram({Trefoil(), "generate", "--checkpoint=" + run});
  EXPECT_EQ(generate.status, 2);
  EXPECT_EQ(Count(generate.output,
                  "is of a TRANSFORMER with head TOKENS, which does not continue text; use `trefoil predict`"),
            1)
      << generate.output;
}

TEST_F(Predict, BadInput) {
  MakeRecords("small", "pairs", 60, Pair);
  const std::string run =
      Train("refusing", "small", "family: TRANSFORMER layers: 1 hidden: 32 heads: 2 sequence_length: 32", "", 1);
  const std::string output = Path("no_output");
  const auto refused = [&](const std::string& content, const std::string& message) {
    WriteText(Path("bad"), content);
    ExpectRefused(Ask(run, {Path("bad"), "--output=" + output}), Path("bad") + message);
    EXPECT_FALSE(std::filesystem::exists(output));
  };
  refused("eins\n\nzwei\n", ": line 2: is empty; a text is asked for");
  refused("eins\nzw\xe9i\n", ": line 2: byte 3 is not UTF-8; convert the text to UTF-8");
  WriteText(Path("bad"), "");
  ExpectRefused(Ask(run, {Path("bad")}), "--input: " + Path("bad") + " is empty; a text a line is asked for");
  WriteText(Path("bad.jsonl"), "{\"source\": \"eins\"}\n{\"text\": \"zwei\"}\n");
  ExpectRefused(Ask(run, {Path("bad.jsonl")}), Path("bad.jsonl") + ": line 2: has no field \"source\"; it is a text");
  ExpectRefused(Ask(run, {Path("nothing")}),
                "input: " + Path("nothing") + ": no such file; give .txt or .jsonl files (.gz, .zst)");
  ExpectRefused(Ask(run, {"--text="}), "--text: is empty; a text is asked for");
  ExpectRefused(Ask(run, {"--text=eins", Path("bad")}), "--text: files are given as well; leave one out");
  ExpectRefused(Ask(run, {"--text=eins", "--top=5"}), "--top: 5, more than --beam, 4; nearest legal: 4");
  ExpectRefused(Ask(run, {"--text=eins", "--batch=0"}), "--batch: 0, must be at least 1; nearest legal: 1");
  ExpectRefused(Ask(run, {"--text=eins", "--length_penalty=-1"}),
                "--length_penalty: -1, must be 0 or more; nearest legal: 0");
  ExpectRefused(Ask(run + "/nothing", {"--text=eins"}), "--checkpoint: " + run + "/nothing does not exist");
  ExpectRefused(Ask(run, {"--text=eins", "--tokens=32"}),
                "--tokens: 32, more than the model's decoder writes; nearest legal: 31");
  // What the run was trained on stands in its config.
  const std::string config = ReadText(run + "/config.pbtxt");
  WriteText(run + "/config.pbtxt", std::regex_replace(config, std::regex("kind: TRANSLATION"), "kind: NEXT_TOKEN"));
  const Said other = Ask(run, {"--text=eins"});
  EXPECT_EQ(Count(other.err, "config.pbtxt: task.kind NEXT_TOKEN, which the TRANSFORMER of "), 1) << other.err;
  std::filesystem::rename(run + "/config.pbtxt", run + "/moved");
  const Said unknown = Ask(run, {"--text=eins"});
  EXPECT_EQ(unknown.status, 1);
  EXPECT_EQ(Count(unknown.err, "config.pbtxt"), 1) << unknown.err;
}

TEST_F(Predict, ClassesOfTexts) {
  // Mostly whether a text begins with a colour.
  const auto line = [](const std::string& text) -> Json {
    const bool colour = text.starts_with("rot") || text.starts_with("blau") || Random(8) == 0;
    return {{"text", text}, {"label", colour ? "colour" : "other"}};
  };
  MakeRecords("texts", "labels", 400, line);
  for (const std::string& model :
       {std::string(kBert), std::string("family: LSTM bidirectional: true layers: 1 hidden: 32 "
                                        "sequence_length: 24")}) {
    SCOPED_TRACE(model);
    const std::string run = Train("classes", "texts", model, "kind: TEXT_CLASSES", 60);
    EXPECT_EQ(Count(ReadText(run + "/config.pbtxt"), "class_names: \"colour\"\n  class_names: \"other\"\n"), 1);
    const std::string held_out = Path("texts") + "/held_out-*";
    const Said said = Ask(run, {held_out, "--batch=7"});
    ExpectAccuracy(said, HeldOut(run, "accuracy"));
    const std::vector<Json> lines = Parsed(Ask(run, {held_out, "--json", "--top=2"}));
    ASSERT_EQ(lines.size(), said.lines().size());
    for (size_t i = 0; i < lines.size(); ++i) {
      const Json& predictions = lines[i]["predictions"];
      const std::vector<std::string> fields = absl::StrSplit(said.lines()[i], '\t');
      ASSERT_EQ(fields.size(), 2u);
      EXPECT_EQ(predictions[0]["label"], fields[0]);
      EXPECT_NEAR(predictions[0]["probability"], std::stod(fields[1]), 1e-4);
      EXPECT_NEAR(predictions[0]["probability"].get<double>() + predictions[1]["probability"].get<double>(), 1, 1e-5);
    }
    // The file that the records are made of has the same answers; a text alone has none.
    const Said file = Ask(run, {Path("texts.jsonl")});
    EXPECT_EQ(Count(file.err, " of 400\n"), 1) << file.err;
    EXPECT_EQ(Ask(run, {"--text=rot haus"}).err, "");
    WriteText(Path("wrong.jsonl"), "{\"text\": \"rot\", \"label\": \"color\"}\n");
    ExpectRefused(Ask(run, {Path("wrong.jsonl")}),
                  Path("wrong.jsonl") +
                      ": line 1: label color is none of the model's 2 classes; did you mean "
                      "colour?");
    ExpectRefused(Ask(run, {"--text=rot", "--beam=2"}),
                  "--beam: is about texts that a model writes, and this one was "
                  "trained for TEXT_CLASSES; leave it out");
  }
}

TEST_F(Predict, ClassesOfPairsAndOfWordsAndValues) {
  MakeRecords("text_pairs", "labels", 300, [](const std::string& text) -> Json {
    const std::string pair = Words(4), first = pair.substr(0, pair.find(' '));
    return {{"text", text}, {"text_pair", pair}, {"label", text.find(first) == std::string::npos ? "no" : "yes"}};
  });
  const std::string pairs = Train("text_pairs_run", "text_pairs", kBert, "kind: TEXT_CLASSES", 40);
  ExpectAccuracy(Ask(pairs, {Path("text_pairs") + "/held_out-*", "--batch=9"}), HeldOut(pairs, "accuracy"));

  MakeRecords("words", "labels", 300, [](const std::string& text) -> Json {
    std::vector<std::string> words = absl::StrSplit(text, ' ');
    Json labels = Json::array();
    for (const std::string& word : words) {
      const bool animal = word == "hund" || word == "katze";
      labels.push_back(animal ? Json("animal") : word == "rot" ? Json() : Json(Random(6) == 0 ? "animal" : "thing"));
    }
    return {{"words", words}, {"label", labels}};
  });
  const std::string words = Train("words_run", "words", kBert, "kind: TOKEN_CLASSES", 200);
  ExpectAccuracy(Ask(words, {Path("words") + "/held_out-*", "--batch=9"}), HeldOut(words, "accuracy"));
  const Said line = Ask(words, {"--text=hund  haus rot"});
  EXPECT_TRUE(std::regex_match(line.out, std::regex("hund\tanimal\t0.[0-9]{4}\nhaus\tthing\t0.[0-9]{4}\nrot\t.*\n\n")))
      << line.out;
  const std::vector<Json> json = Parsed(Ask(words, {"--text=hund haus", "--json", "--top=2"}));
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["words"], Json({"hund", "haus"}));
  EXPECT_EQ(json[0]["predictions"][0][0]["label"], "animal");

  MakeRecords("values", "labels", 300, [](const std::string& text) -> Json {
    const std::string pair = Words(4);
    return {{"text", text}, {"text_pair", pair}, {"label", pair < "haus" ? 0.25 : 2.25}};
  });
  const std::string values = Train("values_run", "values", kBert, "kind: TEXT_VALUE", 150);
  const Said said = Ask(values, {Path("values") + "/held_out-*", "--batch=9"});
  std::smatch found;
  ASSERT_TRUE(std::regex_match(
      said.err, found, std::regex("trefoil predict: note: .* cut .*\nmean squared error ([0-9.e-]+) of [0-9]+\n")))
      << said.err;
  EXPECT_LT(std::stod(found[1]), 0.7) << "some of it is learnt";
  EXPECT_NEAR(std::stod(found[1]) / HeldOut(values, "loss"), 1, 1e-4);
}

TEST_F(Predict, Images) {
  // IDX: 100 grey images of 8 x 8, the upper half's brightness telling the class but for noise.
  std::string images("\0\0\x08\x03\0\0\0\x64\0\0\0\x08\0\0\0\x08", 16), labels("\0\0\x08\x01\0\0\0\x64", 8);
  for (int i = 0; i < 100; ++i) {
    labels += static_cast<char>(i % 2);
    for (int p = 0; p < 64; ++p) images += static_cast<char>((i % 2 != 0 && p < 32 ? 20 : 0) + Random(200));
  }
  WriteText(Path("images.idx"), images);
  WriteText(Path("labels.idx"), labels);
  const std::string data = EmptyFolder("packed");
  const Ended packed = RunProgram({Trefoil(), "images", "--images=" + Path("images.idx"),
                                   "--labels=" + Path("labels.idx"), "--output=" + data + "/train", "--held_out=0.3"});
  ASSERT_EQ(packed.status, 0) << packed.output;
  const std::string run =
      Train("images_run", "packed", "family: VIT layers: 1 hidden: 32 heads: 2 image_size: 8 patch_size: 4 channels: 1",
            "", 20);
  const Said said = Ask(run, {data + "/held_out-*", "--batch=7"});
  ExpectAccuracy(said, HeldOut(run, "accuracy"));
  ASSERT_EQ(said.lines().size(), 30u);
  EXPECT_EQ(said.lines()[0].find(data + "/held_out-00000.images: image 0\t"), 0u) << said.lines()[0];
  const std::vector<Json> lines = Parsed(Ask(run, {data + "/held_out-*", "--json", "--top=2"}));
  ASSERT_EQ(lines.size(), 30u);
  EXPECT_EQ(lines[3]["predictions"].size(), 2u);
  EXPECT_EQ(Count("01", lines[3]["reference"].get<std::string>()), 1);
  const Ended no_picture = Explain(run, {"--show=attention", "--image=" + Path("missing.png")});
  EXPECT_NE(no_picture.status, 0);
  EXPECT_EQ(Count(no_picture.output, "trefoil explain: "), 1) << no_picture.output;
  ExpectNotExplained(Explain(run, {"--show=attention", "--text=a"}),
                     "--checkpoint: " + run +
                         "/checkpoints/step-00000020 is of a VIT with head CLASSES, of which no attention "
                         "to texts can be shown");
  ExpectRefused(Ask(run, {"--text=a"}), "--text: the model reads images; give files");
  WriteText(Path("no.png"), "no image");
  const Said refused = Ask(run, {Path("no.png")});
  EXPECT_EQ(refused.status, 2);
  EXPECT_EQ(Count(refused.err, "trefoil predict: " + Path("no.png") + ": not an image"), 1) << refused.err;
}

TEST_F(Predict, MasksAndContinuations) {
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += (i % 2 == 0 ? "der rote " : "die blaue ") + Word() + (i % 9 == 0 ? ".\n\n" : " ");
  WriteText(Path("text.txt"), text);
  Tokenize("text", {"--input=" + Path("text.txt")});
  const std::string masks = Train("masks_run", "text", kBert, "", 200);
  const Said said = Ask(masks, {"--text=der [MASK] haus die [MASK] hund", "--top=2"});
  const std::vector<std::string> fields = absl::StrSplit(said.lines().at(0), '\t');
  ASSERT_EQ(fields.size(), 1u + 2 * 2 * 2) << said.out;
  const std::vector<Json> lines = Parsed(Ask(masks, {"--text=der [MASK] haus die [MASK] hund", "--json", "--top=2"}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["filled"], fields[0]);
  EXPECT_EQ(lines[0]["predictions"].size(), 2u);
  const std::string piece = lines[0]["predictions"][0][0]["text"], other = lines[0]["predictions"][1][0]["text"];
  EXPECT_EQ(fields[0], "der" + piece + " haus die" + other + " hund");
  ExpectRefused(Ask(masks, {"--text=der rote"}),
                "--text: \"der rote\" has no [MASK]; put one where a piece is to be found");
  const Json shown = Json::parse(Explain(masks, {"--show=attention", "--text=der rote"}).output);
  EXPECT_EQ(shown["tokens"].front(), "[CLS]");
  ExpectMaps(shown, {"blocks.0.attention"}, 2, shown["tokens"].size(), shown["tokens"].size());
  ExpectNotExplained(Explain(masks, {"--show=attention", "--text=a", "--samples=3"}),
                     "--samples: is about losses and gradients; leave it out");
  ExpectNotExplained(Explain(masks, {"--show=all"}), "--show: 'all', must be losses, gradients or attention");
  const Said longer = Ask(masks, {"--text=[MASK] " + Words(60)});
  EXPECT_TRUE(longer.err.ends_with(" tokens, more than the model reads; nearest legal: 22\n")) << longer.err;

  for (const std::string& model : {std::string("family: GPT layers: 1 hidden: 32 heads: 2 sequence_length: 24"),
                                   std::string("family: LSTM layers: 1 hidden: 32 sequence_length: 24")}) {
    SCOPED_TRACE(model);
    const std::string run = Train("writing_run", "text", model, "", 60);
    const Said next = Ask(run, {"--text=der rote haus", "--tokens=10"});
    EXPECT_EQ(next.status, 0) << next.err;
    // What generate writes when it always takes the likeliest, behind the prompt.
    const Ended generated = WithoutSpeeds(RunProgram(
        {Trefoil(), "generate", "--checkpoint=" + run, "--prompt=der rote haus", "--tokens=10", "--temperature=0"}));
    EXPECT_EQ(generated.output, "der rote haus" + next.out);
    ExpectEvaluated(run);
    const Said longer = Ask(run, {"--text=" + Words(40), "--tokens=2"});
    EXPECT_EQ(Count(longer.err, "1 text is cut to the last 24 tokens that the model reads, the first --text, "), 1)
        << longer.err;
    const std::vector<Json> wide = Parsed(Ask(run, {"--text=der", "--tokens=6", "--beam=5", "--top=5", "--json"}));
    ASSERT_EQ(wide.size(), 1u);
    EXPECT_EQ(wide[0]["predictions"].size(), 5u);
    // By place, of the held-out samples that training has measured: 24 places.
    const Json losses = Json::parse(Explain(run, {"--show=losses", "--samples=100000"}).output);
    ASSERT_EQ(losses["loss_by_position"].size(), 24u);
    double sum = 0;
    for (const double loss : losses["loss_by_position"]) sum += loss / 24;
    EXPECT_NEAR(sum, HeldOut(run, "loss"), 0.1);  // training has taken the last few samples too
    // On one rank, however many the run had.
    const std::string config = ReadText(run + "/config.pbtxt");
    const std::string of_many = absl::StrReplaceAll(
        config, {{"  data: 1\n", "  data: 4\n"}, {"  replicas: 1\n", "  replicas: 2\n"}, {"zero: OPTIMIZER", "zero: WEIGHTS"}});
    ASSERT_EQ(of_many.size(), config.size() - 2);
    WriteText(run + "/config.pbtxt", of_many);
    EXPECT_EQ(Json::parse(Explain(run, {"--show=losses", "--samples=100000"}).output), losses);
    const Json norms = Json::parse(Explain(run, {"--show=gradients", "--samples=8"}).output);
    ASSERT_EQ(norms["gradient_by_distance"].size(), 24u);
    for (const double norm : norms["gradient_by_distance"]) EXPECT_GT(norm, 0);
  }
  // Spans that were cut out.
  const std::string t5 =
      Train("spans_run", "text", "family: T5 layers: 1 hidden: 32 heads: 2 sequence_length: 24", "", 60);
  const Said spans = Ask(t5, {"--text=der <extra_id_0> haus"});
  EXPECT_EQ(spans.status, 0) << spans.err;
  EXPECT_EQ(spans.out.substr(0, 12), "<extra_id_0>") << spans.out;
}

}  // namespace
}  // namespace trefoil
