// The ids and texts of tests/golden/tokenizers.json, which libraries of others have made: the `tokenizers` package for
// each kind of tokenizer.json, sentencepiece for .model files. And files that are damaged.
#include "data/tokens/json/json_tokenizer.h"

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <glog/logging.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "data/text/utf8.h"
#include "data/tokens/json/json_value.h"
#include "data/tokens/text_stream.h"
#include "data/tokens/tokenizer.h"
#include "tests/data/tokens/json/golden_tokenizers.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

Json EntryOf(const std::string& name) {
  for (const Json& entry : Golden().at("tokenizers")) {
    if (entry.at("name") == name) return entry;
  }
  LOG(FATAL) << name;
}

absl::StatusOr<Tokenizer> Open(const Json& entry) {
  TokenizerFiles files;
  files.json = entry.contains("json");
  if (files.json) {
    files.content = entry.at("json");
    if (!entry.at("config").is_null()) files.config = entry.at("config");
  } else {
    CHECK(absl::Base64Unescape(entry.at("model").get<std::string>(), &files.content));
  }
  return Tokenizer::Of(std::move(files), "t.json");
}

Tokenizer Opened(const std::string& name) {
  auto tokenizer = Open(EntryOf(name));
  CHECK(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

uint32_t Fnv(std::string_view bytes, uint32_t hash = 2166136261) {
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 16777619u;
  return hash;
}

uint32_t Fnv(const std::vector<int32_t>& ids) {
  return Fnv(std::string_view(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)));
}

void ExpectAsMeasured(const Json& entry) {
  SCOPED_TRACE(entry.at("name"));
  auto tokenizer = Open(entry);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const Json& shown : entry.at("shown")) {
    const std::string text = shown[0];
    const auto ids = tokenizer->Encode(text);
    EXPECT_EQ(ids, shown[1].get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(tokenizer->Decode(ids), shown[2].get<std::string>()) << text;
  }
  const auto generated = Golden().at("generated").get<size_t>();
  for (size_t k = 0; k < generated; ++k) {
    const std::string text = GeneratedText(k);
    const auto ids = tokenizer->Encode(text);
    ASSERT_EQ(Fnv(ids), entry.at("ids")[k].get<uint32_t>()) << "text " << k << ": " << text;
    ASSERT_EQ(Fnv(tokenizer->Decode(ids)), entry.at("decoded")[k].get<uint32_t>()) << "text " << k << ": " << text;
    ASSERT_EQ(tokenizer->Encode(text), ids) << "words that are remembered";
  }
}

TEST(JsonTokenizer, GivesTheIdsOfTheTokenizersPackage) {
  ASSERT_GE(Golden().at("tokenizers").size(), 15u);
  for (const Json& entry : Golden().at("tokenizers")) ExpectAsMeasured(entry);
}

TEST(JsonTokenizer, ModelFilesGiveTheIdsOfSentencePiece) {
  ASSERT_EQ(Golden().at("models").size(), 2u);
  for (const Json& entry : Golden().at("models")) ExpectAsMeasured(entry);
}

std::string RandomBytes(std::minstd_rand* random) {
  const std::string some = GeneratedText((*random)());
  std::string text;
  for (const char c : some) {
    if (c == '<') continue;  // of symbols
    text += c;
    if ((*random)() % 16 == 0) text += static_cast<char>((*random)() % 256);
    if ((*random)() % 16 == 0 && text.back() != '<') text.pop_back();
  }
  return absl::StrReplaceAll(text, {{"<", ""}});
}

// What is no UTF-8 too.
TEST(JsonTokenizer, BytesComeBack) {
  for (const char* name : {"gpt2", "smollm", "llama3"}) {
    Tokenizer tokenizer = Opened(name);
    EXPECT_TRUE(tokenizer.exact()) << name;
    std::minstd_rand random(5);
    for (int i = 0; i < 300; ++i) {
      const std::string text = RandomBytes(&random);
      EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text) << name;
    }
  }
  for (const char* name : {"qwen", "roberta", "bert_uncased", "llama2", "unigram"})
    EXPECT_FALSE(Opened(name).exact()) << name;
}

TEST(JsonTokenizer, OddBytesAreSpelledWhereTheyCanBe) {
  Tokenizer qwen = Opened("qwen"), llama = Opened("llama2"), bert = Opened("bert_uncased"), unigram = Opened("unigram");
  const std::string odd = "It was \xff\xc3 the \xe6\x9d";
  EXPECT_EQ(qwen.Decode(qwen.Encode(odd)), odd);
  EXPECT_EQ(llama.Decode(llama.Encode(odd)), odd);
  EXPECT_EQ(bert.Encode(odd), bert.Encode("It was \xef\xbf\xbd\xef\xbf\xbd the \xef\xbf\xbd\xef\xbf\xbd"));
  EXPECT_EQ(unigram.Encode(odd), unigram.Encode("It was \xef\xbf\xbd\xef\xbf\xbd the \xef\xbf\xbd\xef\xbf\xbd"));
}

TEST(JsonTokenizer, SymbolsOfTexts) {
  const auto named = [](const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
    std::string names;
    for (const int32_t id : ids) absl::StrAppend(&names, std::string(tokenizer.Piece(id)));
    return names;
  };
  const struct {
    const char *name, *begin, *end, *before, *after;
  } kExpected[] = {{"gpt2", "", "<|endoftext|>", "", ""},         {"llama3", "<s>", "</s>", "<s>", ""},
                   {"roberta", "<s>", "</s>", "<s>", "</s>"},     {"bert_uncased", "[CLS]", "[SEP]", "[CLS]", "[SEP]"},
                   {"unigram", "", "</s>", "", "</s>"},           {"llama2", "", "</s>", "", ""}};
  for (const auto& expected : kExpected) {
    const Tokenizer tokenizer = Opened(expected.name);
    EXPECT_EQ(named(tokenizer, tokenizer.before_text()), expected.before) << expected.name;
    EXPECT_EQ(named(tokenizer, tokenizer.after_text()), expected.after) << expected.name;
    EXPECT_EQ(tokenizer.Piece(tokenizer.end_of_text()), expected.end) << expected.name;
    const int32_t begin = tokenizer.begin_of_text();
    EXPECT_EQ(begin < 0 ? "" : tokenizer.Piece(begin), expected.begin) << expected.name;
    EXPECT_EQ(tokenizer.Decode(std::vector<int32_t>{tokenizer.end_of_text()}), "");
  }
}

// As tokenize cuts it.
TEST(JsonTokenizer, ADocumentInPartsIsAsAWhole) {
  const std::string text = "It was the best of times, the worst.\n\nIt was 1234567 café\nword of that";
  for (const Json& entry : Golden().at("tokenizers")) {
    Tokenizer tokenizer = Opened(entry.at("name"));
    for (const char* part : {" was", " of times", " the worst", " caf", "\nword"}) {
      const size_t cut = text.find(part);
      std::vector<int32_t> parts = tokenizer.Encode(text.substr(0, cut));
      for (const int32_t id : tokenizer.Encode(text.substr(cut), text.substr(0, cut))) parts.push_back(id);
      EXPECT_EQ(parts, tokenizer.Encode(text)) << entry.at("name") << " " << cut;
    }
  }
}

TEST(JsonTokenizer, StreamsHoldBackHalfCharacters) {
  for (const char* name : {"gpt2", "qwen", "llama2", "unigram_bytes"}) {
    Tokenizer tokenizer = Opened(name);
    const std::string text = "It was 東京 \xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd é";
    TextStream stream(tokenizer, {});
    std::string all;
    const std::vector<int32_t> ids = tokenizer.Encode(text);
    for (const int32_t id : ids) {
      const std::string part = stream.Add(id);
      EXPECT_EQ(Utf8ValidBytes(part), part.size()) << name << ": half a character";
      all += part;
    }
    all += stream.End();
    EXPECT_EQ(all, tokenizer.Decode(ids)) << name;
  }
}

TEST(JsonTokenizer, WordsBegin) {
  for (const char* name : {"gpt2", "bert_uncased", "llama2", "unigram"}) {
    Tokenizer tokenizer = Opened(name);
    const std::vector<bool> begins = tokenizer.BeginsWord();
    const std::vector<int32_t> ids = tokenizer.Encode("x of supercalifragilistic that");
    std::vector<std::string> words;
    for (const int32_t id : ids) {
      if (begins[id] || words.empty()) words.emplace_back();
      words.back() += tokenizer.Piece(id);
    }
    EXPECT_EQ(words.size(), 4u) << name << " " << testing::PrintToString(words);
  }
}

// Each is the one error of its file.
TEST(JsonTokenizer, WhatIsNotKnownIsNamedByItsPlace) {
  const Json bert = Json::parse(EntryOf("bert_uncased").at("json").get<std::string>());
  const Json gpt2 = Json::parse(EntryOf("gpt2").at("json").get<std::string>());
  const struct {
    const Json& file;
    const char *place, *value, *message;
  } kBad[] = {
      {bert, "/normalizer/type", R"("BertNormaliser")",
       R"(normalizer.type: "BertNormaliser": a normalizer that is not known)"},
      {bert, "/normalizer/shout", "true", "normalizer.shout: true: an option that is not known"},
      {bert, "/normalizer/lowercase", "3", "normalizer.lowercase: 3: must be true or false"},
      {bert, "/pre_tokenizer", R"({"type": "UnicodeScripts"})",
       R"(pre_tokenizer.type: "UnicodeScripts": a pre-tokenizer that is not)"},
      {bert, "/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "X"}]})",
       R"(pre_tokenizer.pretokenizers[1].type: "X": )"},
      {bert, "/pre_tokenizer",
       R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false})",
       R"re(pre_tokenizer.pattern.Regex: "(": not a regular expression that is known here: )re"},
      {bert, "/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "a{2,3}+"}, "behavior": "Isolated"})",
       "\"{2,3}+\" may mean"},
      {bert, "/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "[a&&b]"}, "behavior": "Isolated"})",
       "\"&&\" may mean"},
      {bert, "/pre_tokenizer", R"({"type": "Split", "pattern": {"String": " "}, "behavior": "Glued"})",
       R"(pre_tokenizer.behavior: "Glued": must be Removed, )"},
      {bert, "/model/type", R"("Trigram")", R"(model.type: "Trigram": a model that is not known here)"},
      {bert, "/model/unk_token", R"("[NONE]")", R"(model.unk_token: "[NONE]": is not in model.vocab)"},
      {bert, "/model/vocab", "{}", "model.unk_token: \"[UNK]\": is not in model.vocab"},
      {bert, "/model/vocab/of", "-1", "model.vocab.of: -1: must be in [0, 8388608)"},
      {bert, "/model/vocab/of", "4000000000", "model.vocab.of: 4000000000: must be in [0, 8388608)"},
      {bert, "/model/vocab/of", "1", "another token has this id"},
      {bert, "/model/vocab/of", "1.5", "model.vocab.of: 1.5: must be a whole number"},
      {bert, "/decoder/type", R"("CTC")", R"(decoder.type: "CTC": a decoder that is not known here)"},
      {bert, "/post_processor/special_tokens/[CLS]/ids", "[99999]",
       "post_processor.special_tokens.[CLS].ids[0]: 99999: must be an id"},
      {bert, "/post_processor/single", "[]", "post_processor.single: an array of 0: has no place for the text"},
      {bert, "/added_tokens/0/id", "77", "added_tokens[0].id: 77: of [PAD] must be 0"},
      {bert, "/added_tokens/1/content", R"("[PAD]")", "added_tokens[1].content: \"[PAD]\": is there twice"},
      {bert, "/added_tokens", "[]", "has no token to end texts"},
      {bert, "/version", R"("2.0")", R"(version: "2.0": must be "1.0")"},
      {bert, "/novelty", "1", "novelty: 1: an option that is not known here"},
      {gpt2, "/model/dropout", "0.1", "model.dropout: 0.1: makes the ids of a text random"},
      {gpt2, "/model/merges/0", R"(["zz", "y"])",
       "model.merges[0]: an array of 2: both tokens and what they make together must be in"},
      {gpt2, "/model/merges/0", R"("a b c")", "model.merges[0]: \"a b c\": must be two tokens"},
      {gpt2, "/model/unk_token", "7", "model.unk_token: 7: must be a text"},
      {gpt2, "/model", "[1]", "model: an array of 1: must be an object"},
      {gpt2, "/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="})",
       "normalizer.precompiled_charsmap: "},
  };
  for (const auto& bad : kBad) {
    Json file = bad.file;
    file[Json::json_pointer(bad.place)] = Json::parse(bad.value);
    TokenizerFiles files;
    files.json = true;
    files.content = file.dump();
    const auto tokenizer = Tokenizer::Of(std::move(files), "t.json");
    ASSERT_FALSE(tokenizer.ok()) << bad.place;
    EXPECT_THAT(tokenizer.status().message(), HasSubstr(bad.message));
    EXPECT_EQ(tokenizer.status().message().substr(0, 8), "t.json: ");
    EXPECT_EQ(tokenizer.status().message().find('\n'), std::string::npos);
  }
}

// Of the digits 43987752346006588 one is lost in a double, and more in the division: not the nearest number.
TEST(JsonValue, NumbersAreThoseOfThePackage) {
  const auto number = [](const std::string& text) {
    const auto file = JsonFile::Parse(text);
    CHECK(file.ok()) << file.status();
    return *file->root().Number();
  };
  EXPECT_NE(number("-43.987752346006588"), -43.987752346006588);
  EXPECT_EQ(number("-43.987752346006588"), -43987752346006588.0 / 1e15);
  EXPECT_EQ(number("-0.5"), -0.5);
  EXPECT_EQ(number("1e308"), 1e308);
  EXPECT_EQ(number("2e-310"), 2 / 1e308 / 100);
  EXPECT_EQ(number("0.0e-999999"), 0);
  EXPECT_EQ(number("18446744073709551616000.5"), 1844674407370955161.0 * 1e4);
}

TEST(JsonTokenizer, TheConfigNamesTheSymbols) {
  Json entry = EntryOf("gpt2");
  for (const auto& [config, message] : std::vector<std::pair<std::string, std::string>>{
           {R"({"eos_token": "<none>"})",
            R"(tokenizer_config.json beside it: eos_token: "<none>": is not a token of tokenizer.json)"},
           {R"({"eos_token": 5})", "eos_token: 5: must be a text"},
           {R"({"bos_token": {"content": "<none>"}})", "bos_token.content: \"<none>\": is not a token"},
           {"[]", "tokenizer_config.json beside it: the file: an array of 0: must be an object"},
           {"{", "tokenizer_config.json beside it: broken JSON"}}) {
    entry["config"] = config;
    const auto tokenizer = Open(entry);
    ASSERT_FALSE(tokenizer.ok()) << config;
    EXPECT_THAT(tokenizer.status().message(), HasSubstr(message));
  }
  entry["config"] = R"({"eos_token": null, "bos_token": "<|endoftext|>", "chat_template": "x"})";
  const auto tokenizer = Open(entry);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->end_of_text(), tokenizer->begin_of_text());
}

// Damaged files are read or refused in one line, and what is read encodes and decodes.
TEST(JsonTokenizer, DamagedFilesEndInOneError) {
  const std::string text = GeneratedText(3) + GeneratedText(4) + "\xff";
  std::minstd_rand random(11);
  int refused = 0, read = 0;
  const auto look = [&](std::string content) {
    TokenizerFiles files;
    files.json = true;
    files.content = std::move(content);
    auto tokenizer = Tokenizer::Of(std::move(files), "t.json");
    if (!tokenizer.ok()) {
      ++refused;
      EXPECT_EQ(tokenizer.status().message().find('\n'), std::string::npos) << tokenizer.status();
      return;
    }
    ++read;
    const auto ids = tokenizer->Encode(text);
    tokenizer->Decode(ids);
    tokenizer->BeginsWord();
  };
  const std::string parts[] = {
      "null", "[]", "{}", "\"\"", "-1", "1e308", "18446744073709551615", "true", "\"\\ud83d\\ude00\"", "\"a\""};
  for (const Json& entry : Golden().at("tokenizers")) {
    const Json file = Json::parse(entry.at("json").get<std::string>());
    for (int i = 0; i < 12; ++i) {
      std::string content = entry.at("json");
      for (int damage = 1 + static_cast<int>(random() % 3); damage > 0; --damage) {
        const size_t at = random() % content.size();
        if (random() % 2 == 0) {
          content[at] = static_cast<char>(random() % 256);
        } else {
          content.erase(at, 1 + random() % 40);
        }
      }
      look(std::move(content));
    }
    const Json flat = file.flatten();
    std::vector<std::string> places;
    for (const auto& [place, value] : flat.items()) {
      if (place.rfind("/model/vocab", 0) != 0 && place.rfind("/model/merges", 0) != 0) places.push_back(place);
    }
    for (int i = 0; i < 40; ++i) {
      Json changed = file;
      changed[Json::json_pointer(places[random() % places.size()])] = Json::parse(parts[random() % std::size(parts)]);
      look(changed.dump());
    }
  }
  EXPECT_GT(refused, 300);
  EXPECT_GT(read, 50);
  for (const std::string& content : {std::string(), std::string("{"), std::string("\0", 1), std::string("[[[[\xff"),
                                     std::string(1000000, '['), std::string(99, '[') + std::string(99, ']')}) {
    refused = 0;
    look(content);
    EXPECT_EQ(refused, 1);
  }
  // Nested where a part is.
  std::string deep = R"({"pre_tokenizer":)";
  for (int i = 0; i < 100000; ++i) deep += R"({"type":"Sequence","pretokenizers":[)";
  refused = 0;
  look(deep);
  EXPECT_EQ(refused, 1);
}

}  // namespace
}  // namespace trefoil
