#include "data/tokens/tokenizer.h"

#include <glog/logging.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <random>

#include "data/text/utf8.h"
#include "data/tokens/sentencepiece_bridge.h"
#include "data/tokens/text_stream.h"

namespace trefoil {
namespace {

std::string Path(const std::string& name) {
  return testing::TempDir() + "/tokenizer_test" + std::to_string(getpid()) + name;
}

std::vector<std::string> Texts() {
  std::string text;
  const char* words[] = {"sense", "and", "sensibility", "pride", "prejudice", "the", "Netherfield", "ball", "walked",
                         "walking", "truth", "universally", "acknowledged", "caf\xc3\xa9", "42", "1813,", "over."};
  std::minstd_rand random(1);
  for (int i = 0; i < 4000; ++i) {
    text += words[random() % 17];
    text += random() % 12 == 0 ? "\n" : random() % 40 == 0 ? "\n\n    " : " ";
  }
  return {text, "second text with    spaces\tand tabs", ""};
}

Tokenizer& Trained() {
  static Tokenizer* tokenizer = [] {
    auto trained = Tokenizer::Train(Texts(), 400);
    CHECK(trained.ok()) << trained.status();
    return new Tokenizer(*std::move(trained));
  }();
  return *tokenizer;
}

TEST(Tokenizer, RoundTripsOddTexts) {
  Tokenizer& tokenizer = Trained();
  const std::string texts[] = {
      "",
      " ",
      "   ",
      "\n",
      "\n\n\n\n\n",
      " leading and trailing ",
      "double  spaces   three\t\ttabs\r\n windows line",
      "walking over the caf\xc3\xa9, 1813.",
      "\xf0\x9f\x8d\x80 \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x94\xac trefoil",          // emoji
      "\xe4\xb8\x89\xe5\x8f\xb6\xe8\x8d\x89 \xe3\x82\xaf\xe3\x83\xad\xe3\x83\xbc\xe3\x83\x90\xe3\x83\xbc",  // CJK
      "\xef\xac\x81 \xe2\x91\xa0 e\xcc\x81 \xc2\xa0 \xe3\x80\x80",  // what NFKC would change
      "a\xe2\x96\x81" "b \xe2\x96\x81\xe2\x96\x81 \xe2\x96\x85",     // SentencePiece's own marks
      std::string("nul \0 in \0\0 text", 17),
      "invalid \xff\xfe \xc3 \xe2\x96 \xed\xa0\x80 \xc0\x80 end\xf0\x9f",
      "<|endoftext|> </s> <unk> <0x41>",
      "\xef\xbf\xbd replacement, \xef\xbb\xbf mark",
      std::string(5000, 'x') + " " + std::string(300, ' ') + "y",
  };
  for (const std::string& text : texts) {
    const auto ids = tokenizer.Encode(text);
    EXPECT_EQ(tokenizer.Decode(ids), text);
    for (int32_t id : ids) {
      EXPECT_NE(id, tokenizer.end_of_text()) << text;
      EXPECT_NE(id, 1) << "unknown in " << text;
    }
  }
}

TEST(Tokenizer, RoundTripsRandomBytes) {
  Tokenizer& tokenizer = Trained();
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    std::string text;
    const int length = random() % 60;
    for (int j = 0; j < length; ++j) {
      const char* likely[] = {" ", "\n", "\xe2\x96\x81", "the", "\xc3"};
      const unsigned choice = random() % 10;
      text += choice < 5 ? std::string(likely[choice]) : std::string(1, static_cast<char>(random()));
    }
    EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text);
  }
}

// The word-by-word way with its memory against SentencePiece itself on whole texts.
TEST(Tokenizer, GivesTheIdsThatSentencePieceGives) {
  Tokenizer& tokenizer = Trained();
  SentencePieceModel model;
  ASSERT_EQ(model.Load(tokenizer.files().content), "");
  for (std::string text : Texts()) {
    text += " sensing sensibly\n\n\nwalkable   walked 2024 \t caf\xc3\xa9s \xe4\xb8\x89";
    for (int round = 0; round < 2; ++round) {
      std::vector<int32_t> ids;
      model.Encode(text, &ids);
      EXPECT_EQ(tokenizer.Encode(text), ids);
    }
  }
}

TEST(Tokenizer, CompressesAndKeepsNewlinesAndDigitsApart) {
  Tokenizer& tokenizer = Trained();
  const std::string text = Texts()[0];
  EXPECT_LT(tokenizer.Encode(text).size(), text.size() / 3);
  EXPECT_EQ(tokenizer.Encode("\n"), std::vector<int32_t>{2});
  EXPECT_EQ(tokenizer.Encode("\n\n\n"), (std::vector<int32_t>{3, 2}));
  EXPECT_EQ(tokenizer.Encode("421813").size(), 6u);
  EXPECT_EQ(tokenizer.end_of_text(), 0);
  EXPECT_EQ(tokenizer.vocabulary(), 400);
  EXPECT_EQ(tokenizer.Decode(std::vector<int32_t>{0, 2, 0}), "\n");
}

TEST(Tokenizer, TrainingIsDeterministicAndQuiet) {
  testing::internal::CaptureStderr();
  auto again = Tokenizer::Train(Texts(), 400);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->Encode(Texts()[0]), Trained().Encode(Texts()[0]));
}

TEST(Tokenizer, KnowsWhichTokensBeginAWord) {
  Tokenizer& tokenizer = Trained();
  const std::vector<bool> begins = tokenizer.BeginsWord();
  ASSERT_EQ(static_cast<int64_t>(begins.size()), tokenizer.vocabulary());
  const auto words = [&](const std::string& text) {
    std::vector<std::string> found;
    for (const int32_t id : tokenizer.Encode(text)) {
      if (begins[id] || found.empty()) found.emplace_back();
      found.back() += tokenizer.Decode({&id, 1});
    }
    return found;
  };
  EXPECT_EQ(words("walking over Netherfield, 1813: it's caf\xc3\xa9\nthe Zq"),
            (std::vector<std::string>{"walking", " over", " Netherfield", ",", " 1813", ":", " it's", " caf\xc3\xa9",
                                      "\nthe", " Zq"}));
  EXPECT_TRUE(begins[tokenizer.end_of_text()]);
}

TEST(Tokenizer, SavedAndLoadedIsTheSame) {
  const std::string folder = Path("saved");
  ASSERT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  ASSERT_TRUE(Trained().Save(FileSystem::Posix(), folder).ok());
  auto loaded = Tokenizer::Load(FileSystem::Posix(), folder + "/tokenizer.model");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(loaded->exact());
  EXPECT_EQ(loaded->vocabulary(), 400);
  EXPECT_EQ(loaded->Encode(Texts()[0]), Trained().Encode(Texts()[0]));
  EXPECT_EQ(loaded->checksum(), Trained().checksum());
  EXPECT_NE(loaded->checksum(), Tokenizer::Train(Texts(), 401)->checksum());
}

TEST(Tokenizer, ErrorsSayTheBound) {
  auto small = Tokenizer::Train(Texts(), 200);
  ASSERT_FALSE(small.ok());
  EXPECT_NE(small.status().message().find("vocabulary: 200: "), std::string::npos) << small.status();
  EXPECT_NE(small.status().message().find("at least 262"), std::string::npos) << small.status();
  auto large = Tokenizer::Train(Texts(), 30000);
  ASSERT_FALSE(large.ok());
  EXPECT_NE(large.status().message().find("vocabulary: 30000: the text supports no more than"), std::string::npos)
      << large.status();
  EXPECT_FALSE(Tokenizer::Train({}, 400).ok());
  const std::string path = Path("broken.model");
  EXPECT_NE(Tokenizer::Load(FileSystem::Posix(), path).status().message().find(path), std::string::npos);
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, "not a model").ok());
  auto broken = Tokenizer::Load(FileSystem::Posix(), path);
  ASSERT_FALSE(broken.ok());
  EXPECT_NE(broken.status().message().find(path), std::string::npos) << broken.status();
  EXPECT_NE(broken.status().message().find("SentencePiece"), std::string::npos);
}

// Many different characters do not fit a small vocabulary: the rare ones are spelled in bytes instead of failing.
TEST(Tokenizer, TrainsOnMoreCharactersThanTheVocabularyHolds) {
  std::string text = Texts()[0];
  for (unsigned c = 0x4e00; c < 0x4e00 + 500; ++c) {
    text += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
             static_cast<char>(0x80 | (c & 63))};
  }
  text += std::string("nul \0 and \xff here\0", 17);
  auto tokenizer = Tokenizer::Train(std::vector<std::string>{text}, 320);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
}

// Texts in which the space is rare or never there: its stand-in must have a piece all the same.
TEST(Tokenizer, TrainsOnTextsWithoutCommonSpaces) {
  std::minstd_rand random(3);
  std::string chinese, dna, words, unspaced, one_space;
  for (int i = 0; i < 20000; ++i) {
    const unsigned c = 0x4e00 + random() % (1 + random() % 300);  // some far more often than others
    chinese += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
                static_cast<char>(0x80 | (c & 63))};
    if (i % 37 == 0) chinese += "\xe3\x80\x82";  // the full stop
    dna += "ACGT"[random() % 4];
    if (i % 70 == 69) dna += '\n';
  }
  const std::string plain = Texts()[0];
  for (char c : plain) {
    if (c != ' ') unspaced += c;
  }
  for (int i = 0; i < 500; ++i) {
    for (int letters = 2 + static_cast<int>(random() % 8); letters > 0; --letters) {
      words += static_cast<char>('a' + random() % 26);
    }
    words += '\n';
  }
  one_space = unspaced + " end";
  const std::string odd = " a  b \xe4\xb8\x89 \xe2\x96\x81\n \n\n x\t ";
  for (const auto& [text, vocabulary] : {std::pair(chinese, 600), std::pair(chinese, 262), std::pair(dna, 280),
                                         std::pair(words, 270), std::pair(words, 400), std::pair(unspaced, 300),
                                         std::pair(one_space, 300), std::pair(one_space, 262)}) {
    SCOPED_TRACE(text.substr(0, 30) + " " + std::to_string(vocabulary));
    auto tokenizer = Tokenizer::Train(std::vector<std::string>{text}, vocabulary);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_TRUE(tokenizer->exact());
    EXPECT_EQ(tokenizer->vocabulary(), vocabulary);
    for (const std::string& some : {text, odd, plain}) EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(some)), some);
    EXPECT_EQ(tokenizer->Encode(" ").size(), 1u) << "a space is a piece";
  }
}

// SentencePiece's own trainer with what others choose: its defaults (NFKC, spaces trimmed, a dummy prefix), Llama's
// (identity, spaces kept, a dummy prefix), and without bytes to fall back on.
std::vector<Tokenizer> Foreign() {
  std::vector<Tokenizer> foreign;
  const std::vector<std::pair<std::string, std::string>> common = {{"vocab_size", "330"}, {"hard_vocab_limit", "false"}};
  for (const std::vector<std::pair<std::string, std::string>>& options :
       {std::vector<std::pair<std::string, std::string>>{{"model_type", "bpe"}, {"byte_fallback", "true"}},
        {{"model_type", "bpe"},
         {"byte_fallback", "true"},
         {"normalization_rule_name", "identity"},
         {"remove_extra_whitespaces", "false"}},
        {{"model_type", "unigram"}, {"byte_fallback", "false"}}}) {
    const std::string text = Texts()[0];
    size_t at = 0;
    std::vector<std::pair<std::string, std::string>> all = common;
    all.insert(all.end(), options.begin(), options.end());
    std::string serialized;
    const std::string message = SentencePieceModel::Train(
        all,
        [&](std::string* sentence) {
          const size_t end = text.find('\n', at);
          if (end == std::string::npos) return false;
          *sentence = text.substr(at, end - at);
          at = end + 1;
          return true;
        },
        &serialized);
    EXPECT_EQ(message, "");
    const std::string path = Path("foreign" + std::to_string(foreign.size()) + ".model");
    EXPECT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, serialized).ok());
    auto tokenizer = Tokenizer::Load(FileSystem::Posix(), path);
    CHECK(tokenizer.ok()) << tokenizer.status();
    EXPECT_FALSE(tokenizer->exact());
    foreign.push_back(*std::move(tokenizer));
  }
  return foreign;
}

// As tokenize does it: cut after newlines, blank lines, between words and within them.
TEST(Tokenizer, ForeignModelsEncodeADocumentInPartsAsAWhole) {
  const std::string text = "the Netherfield ball.\n\nsense and  sensibility\n\n\npride walking\nover the caf\xc3\xa9 truth";
  for (Tokenizer& tokenizer : Foreign()) {
    const std::vector<int32_t> whole = tokenizer.Encode(text);
    for (const std::vector<size_t>& cuts : {std::vector<size_t>{23}, {23, 49}, {15}, {16}, {4, 15, 23, 48, 63}, {22, 23, 46}}) {
      std::vector<int32_t> parts;
      size_t begin = 0;
      for (size_t i = 0; i <= cuts.size(); ++i) {
        const size_t end = i < cuts.size() ? cuts[i] : text.size();
        const auto ids = tokenizer.Encode(text.substr(begin, end - begin), text.substr(0, begin));
        parts.insert(parts.end(), ids.begin(), ids.end());
        begin = end;
      }
      EXPECT_EQ(tokenizer.Decode(parts), tokenizer.Decode(whole)) << cuts.front();
    }
    // Within a word the pieces differ, and the text is the same.
    std::vector<int32_t> parts = tokenizer.Encode("Nether");
    for (const int32_t id : tokenizer.Encode("field ball", "Nether")) parts.push_back(id);
    EXPECT_EQ(tokenizer.Decode(parts), "Netherfield ball");
  }
}

TEST(TextStream, GivesTheTextOfAllTokens) {
  const std::string prompt = "the Netherfield", more = " ball walked  over caf\xc3\xa9 \xf0\x9f\x8d\x80 and\n\n42 truth";
  std::vector<Tokenizer> tokenizers = Foreign();
  tokenizers.push_back(std::move(*Tokenizer::Train(Texts(), 400)));
  for (Tokenizer& tokenizer : tokenizers) {
    std::vector<int32_t> ids = tokenizer.Encode(prompt);
    TextStream stream(tokenizer, ids);
    std::string text = tokenizer.Decode(ids);
    for (const int32_t id : tokenizer.Encode(more, prompt)) {
      const std::string part = stream.Add(id);
      if (!tokenizer.exact()) {
        EXPECT_EQ(part.find("\xef\xbf\xbd"), std::string::npos) << "half a character";
      }
      ids.push_back(id);
      text += part;
    }
    text += stream.End();
    EXPECT_EQ(text, tokenizer.Decode(ids));
    if (tokenizer.exact()) {
      EXPECT_EQ(text, prompt + more);
    }
    EXPECT_EQ(text.find("the Netherfield ball walked"), 0u) << text;
    EXPECT_EQ(stream.End(), "");
  }
}

// What is left of a character that never gets whole is given in the end.
TEST(TextStream, HalfACharacterWaits) {
  Tokenizer tokenizer = std::move(Foreign()[1]);
  std::vector<int32_t> ids = tokenizer.Encode("\xf0\x9f\x8d\x80", "x");
  ASSERT_EQ(ids.size(), 4u) << "four bytes";
  TextStream stream(tokenizer, {});
  for (const size_t i : {0, 1, 2}) EXPECT_EQ(stream.Add(ids[i]), "") << i;
  EXPECT_EQ(stream.Add(ids[3]), "\xf0\x9f\x8d\x80");
  EXPECT_EQ(stream.Add(ids[0]), "");
  EXPECT_EQ(stream.End(), "\xef\xbf\xbd");
}

// A model in the style of Llama's: dummy prefix, spaces trimmed. It is used as SentencePiece uses it.
TEST(Tokenizer, ForeignModelsAreUsedAsTheyAre) {
  const auto texts = Texts();
  size_t at = 0;
  std::string serialized;
  ASSERT_EQ(
      SentencePieceModel::Train(
          {{"vocab_size", "330"}, {"model_type", "bpe"}, {"byte_fallback", "true"}, {"hard_vocab_limit", "false"}},
          [&](std::string* sentence) {
            if (at == 50) return false;
            *sentence = texts[0].substr(80 * at++, 80);
            return true;
          },
          &serialized),
      "");
  const std::string path = Path("foreign.model");
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, serialized).ok());
  auto tokenizer = Tokenizer::Load(FileSystem::Posix(), path);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_FALSE(tokenizer->exact());
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("the  ball ")), "the ball");
}

TEST(Utf8, LengthsOfGoodAndBadCharacters) {
  EXPECT_EQ(Utf8Length("a"), 1u);
  EXPECT_EQ(Utf8Length("\xc3\xa9"), 2u);
  EXPECT_EQ(Utf8Length("\xe2\x82\xac"), 3u);
  EXPECT_EQ(Utf8Length("\xf4\x8f\xbf\xbf"), 4u);
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
    EXPECT_EQ(Utf8Length(bad), 0u);
  }
  const std::string text = "a\xe2\x82\xac" "b";
  EXPECT_EQ(Utf8Cut(text, 1), 1u);
  EXPECT_EQ(Utf8Cut(text, 2), 1u);
  EXPECT_EQ(Utf8Cut(text, 3), 1u);
  EXPECT_EQ(Utf8Cut(text, 4), 4u);
  EXPECT_EQ(Utf8Cut(text, 5), 5u);
}

}  // namespace
}  // namespace trefoil
