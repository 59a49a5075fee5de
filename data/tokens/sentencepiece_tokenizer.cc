#include "data/tokens/sentencepiece_tokenizer.h"

#include <absl/memory/memory.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <cstdlib>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "data/text/utf8.h"

namespace trefoil {
namespace {

constexpr std::string_view kSpace = "\xe2\x96\x81";     // U+2581: SentencePiece's stand-in for a space
constexpr std::string_view kReserved = "\xe2\x96\x85";  // U+2585: sentences with it are refused by the trainer
constexpr int64_t kSmallest = 260;                      // end of text, unknown, two newlines, 256 bytes
constexpr size_t kLongestSentence = 4096;               // bytes

// Bytes of the character at the front of `text` that SentencePiece can take; 0 if it must be spelled in bytes.
size_t PlainCharacter(std::string_view text) {
  if (text[0] == '\0' || absl::StartsWith({text.data(), text.size()}, {kSpace.data(), kSpace.size()})) return 0;
  return Utf8Length(text);
}

// A character's bytes as a number.
uint32_t Pack(std::string_view character) {
  uint32_t packed = 0;
  for (char c : character) packed = packed << 8 | static_cast<unsigned char>(c);
  return packed;
}

// The `limit` characters that the texts use most, and the space: others are left to the byte tokens. The space is always
// one: what the texts lack may come later, and SentencePiece spells a space without a piece as its stand-in.
std::unordered_set<uint32_t> FrequentCharacters(std::span<const std::string> texts, size_t limit) {
  std::unordered_map<uint32_t, int64_t> counts;
  for (std::string_view rest : texts) {
    while (!rest.empty()) {
      const size_t length = PlainCharacter(rest);
      if (length > 0) ++counts[Pack(rest.substr(0, length))];
      rest.remove_prefix(std::max<size_t>(length, 1));
    }
  }
  std::vector<std::pair<int64_t, uint32_t>> order;
  for (const auto& [character, count] : counts) order.emplace_back(-count, character);
  std::sort(order.begin(), order.end());
  std::unordered_set<uint32_t> frequent = {Pack(" ")};
  for (size_t i = 0; i < std::min(limit, order.size()); ++i) frequent.insert(order[i].second);
  return frequent;
}

// Cuts texts into sentences for the trainer: at newlines, at characters it is not to learn, and every few KB at a
// space. Texts without any space are followed by a sentence that is one, so that the trainer makes a piece of it (its
// option required_chars ends the process for a character that it has not seen).
class Sentences {
 public:
  Sentences(std::span<const std::string> texts, std::unordered_set<uint32_t> characters)
      : texts_(texts),
        characters_(std::move(characters)),
        lacks_space_(std::none_of(texts.begin(), texts.end(), [](const std::string& text) {
          return text.find(' ') != std::string::npos;
        })) {}

  bool Next(std::string* sentence) {
    sentence->clear();
    while (!texts_.empty()) {
      const std::string_view text = texts_.front();
      while (at_ < text.size()) {
        const std::string_view rest = text.substr(at_);
        const size_t length = PlainCharacter(rest);
        const std::string_view character = rest.substr(0, length);
        const bool learn = length > 0 && character != "\n" && character != kReserved &&
                           characters_.count(Pack(character)) > 0;
        const bool full = sentence->size() >= kLongestSentence - 8 ||
                          (character == " " && sentence->size() >= kLongestSentence / 2);
        if (!sentence->empty() && (!learn || full)) return true;
        if (learn) sentence->append(character);
        at_ += std::max<size_t>(length, 1);
      }
      texts_ = texts_.subspan(1);
      at_ = 0;
      if (!sentence->empty()) return true;
    }
    if (lacks_space_) *sentence = " ";
    return std::exchange(lacks_space_, false);
  }

 private:
  std::span<const std::string> texts_;
  std::unordered_set<uint32_t> characters_;
  bool lacks_space_;
  size_t at_ = 0;  // in the first text
};

}  // namespace

absl::StatusOr<std::unique_ptr<SentencePieceTokenizer>> SentencePieceTokenizer::Train(
    std::span<const std::string> texts, int64_t vocabulary) {
  if (vocabulary < kSmallest + 2) {
    return absl::InvalidArgumentError(absl::StrCat("vocabulary: ", vocabulary, ": the 256 bytes and the symbols take ",
                                                   kSmallest, ", characters come on top; at least ", kSmallest + 2));
  }
  // At most half of what the bytes leave goes to single characters.
  Sentences sentences(texts, FrequentCharacters(texts, (vocabulary - kSmallest) / 2));
  std::string serialized;
  const std::string message = SentencePieceModel::Train(
      {{"model_type", "bpe"},
       {"vocab_size", absl::StrCat(vocabulary)},
       {"hard_vocab_limit", "false"},
       {"character_coverage", "1.0"},
       {"byte_fallback", "true"},
       {"normalization_rule_name", "identity"},
       {"add_dummy_prefix", "false"},
       {"remove_extra_whitespaces", "false"},
       {"allow_whitespace_only_pieces", "true"},
       {"split_digits", "true"},
       {"user_defined_symbols", "\n,\n\n"},
       {"eos_id", "0"},
       {"eos_piece", "<|endoftext|>"},
       {"unk_id", "1"},
       {"bos_id", "-1"},
       {"pad_id", "-1"},
       {"max_sentence_length", absl::StrCat(kLongestSentence)},
       {"input_sentence_size", "0"},
       {"num_threads", "1"}},
      [&](std::string* sentence) { return sentences.Next(sentence); }, &serialized);
  if (!message.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocabulary: ", vocabulary, ": no tokenizer can be trained on these texts: ", message));
  }
  TREFOIL_ASSIGN_OR_RETURN(auto tokenizer, Parse(std::move(serialized), "trained tokenizer"));
  if (tokenizer->vocabulary() != vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat("vocabulary: ", vocabulary, ": the text supports no more than ",
                                                   tokenizer->vocabulary(),
                                                   " pieces; take at most that, or more text"));
  }
  if (!tokenizer->exact()) {
    return absl::InternalError(absl::StrCat("vocabulary: ", vocabulary, ": the tokenizer trained on these texts does ",
                                            "not give texts back as they were; another vocabulary or more text may"));
  }
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<SentencePieceTokenizer>> SentencePieceTokenizer::Parse(std::string serialized,
                                                                                      const std::string& name) {
  auto made = absl::WrapUnique(new SentencePieceTokenizer());
  SentencePieceTokenizer& tokenizer = *made;
  const std::string message = serialized.empty() ? "the file is empty" : tokenizer.model_.Load(serialized);
  if (!message.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not a SentencePiece model: ", message));
  }
  if (tokenizer.model_.end_id() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": has no end-of-sentence symbol; one is needed to end documents (SentencePiece's option eos_id)"));
  }
  tokenizer.serialized_ = std::move(serialized);
  const SentencePieceModel& model = tokenizer.model_;
  tokenizer.byte_ids_.assign(256, -1);
  tokenizer.surfaces_.resize(model.size());
  for (int id = 0; id < model.size(); ++id) {
    if (model.KindOf(id) == SentencePieceModel::Kind::kByte) {  // "<0x0A>"
      const int byte = static_cast<int>(std::strtol(model.Piece(id).c_str() + 3, nullptr, 16));
      tokenizer.byte_ids_[byte & 255] = id;
      tokenizer.surfaces_[id] = static_cast<char>(byte);
    } else if (model.KindOf(id) == SentencePieceModel::Kind::kText) {
      std::string_view piece = model.Piece(id);
      std::string& surface = tokenizer.surfaces_[id];
      while (!piece.empty()) {
        const bool space = piece.substr(0, kSpace.size()) == kSpace;
        surface += space ? ' ' : piece[0];
        piece.remove_prefix(space ? kSpace.size() : 1);
        if (surface.size() > 1) tokenizer.joined_.set(PairOf(surface[surface.size() - 2], surface.back()));
      }
    }
  }
  tokenizer.exact_ = tokenizer.Probe();
  if (!tokenizer.exact_) TREFOIL_RETURN_IF_ERROR(tokenizer.PrepareParts(name));
  return made;
}

bool SentencePieceTokenizer::Probe() const {
  if (std::find(byte_ids_.begin(), byte_ids_.end(), -1) != byte_ids_.end()) return false;
  // Normalisation shows on texts that NFKC, case folding, or the trimming of spaces would change.
  for (const char* text : {"a", " a", "  a  b ",
                           "\t\xef\xac\x81 \xe2\x91\xa0\xc3\x85"
                           "e\xcc\x81 A\xc2\xa0\xe3\x80\x80z ",
                           "\n \n\n\n"}) {
    std::vector<int32_t> ids;
    model_.Encode(text, &ids);
    std::string decoded;
    for (int32_t id : ids) decoded += surfaces_[id];
    if (decoded != text) return false;
  }
  return true;
}

absl::Status SentencePieceTokenizer::PrepareParts(const std::string& name) {
  for (const bool prefix : {false, true}) {
    SentencePieceModel& model = prefix ? with_prefix_ : without_prefix_;
    const std::string message = model.Load(SentencePieceModel::WithDummyPrefix(serialized_, prefix));
    if (!message.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": not a SentencePiece model: ", message));
  }
  const auto same = [&](std::string_view a, std::string_view b) {
    std::vector<int32_t> ids[2];
    model_.Encode(a, &ids[0]);
    model_.Encode(b, &ids[1]);
    return ids[0] == ids[1];
  };
  trims_ = same("a  b", "a b");
  newlines_are_spaces_ = same("a\nb", "a b");
  return absl::OkStatus();
}

// What a trimming model makes of the whole has one space where the parts meet, if there were any; the parts alone lose it.
void SentencePieceTokenizer::EncodePart(std::string_view text, std::string_view before, std::vector<int32_t>* ids) const {
  if (text.empty()) return;
  const auto space = [&](char c) { return c == ' ' || (newlines_are_spaces_ && (c == '\n' || c == '\r' || c == '\t')); };
  if (before.empty()) return model_.Encode(text, ids);
  const bool lost = trims_ && (space(before.back()) || space(text.front()));
  (lost ? with_prefix_ : without_prefix_).Encode(text, ids);
}

void SentencePieceTokenizer::EncodeWord(std::string_view word, std::vector<int32_t>* ids) const {
  while (!word.empty()) {
    size_t plain = 0;
    while (plain < word.size()) {
      const size_t length = PlainCharacter(word.substr(plain));
      if (length == 0) break;
      plain += length;
    }
    if (plain > 0) model_.Encode(word.substr(0, plain), ids);
    word.remove_prefix(plain);
    // One character in bytes: a stand-in for a space is three.
    if (!word.empty()) {
      const size_t length = word.substr(0, kSpace.size()) == kSpace ? kSpace.size() : 1;
      for (size_t i = 0; i < length; ++i) ids->push_back(byte_ids_[static_cast<unsigned char>(word[i])]);
      word.remove_prefix(length);
    }
  }
}

// A text is cut between two bytes that no piece has side by side. Byte-pair merges never reach over such a place, so
// encoding what is between the cuts, one by one, gives what encoding the whole would; and that is mostly words, which
// come again and again.
std::vector<int32_t> SentencePieceTokenizer::Encode(std::string_view text, std::string_view before) {
  std::vector<int32_t> ids;
  if (!exact_) {
    EncodePart(text, before, &ids);
    return ids;
  }
  ids.reserve(text.size() / 3);
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at++;
    while (at < text.size() && Joined(text[at - 1], text[at])) ++at;
    const std::string_view word = text.substr(begin, at - begin);
    words_.Append(word, [&](std::vector<int32_t>* out) { EncodeWord(word, out); }, &ids);
  }
  return ids;
}

PieceKind SentencePieceTokenizer::KindOf(int32_t id) const {
  switch (model_.KindOf(id)) {
    case SentencePieceModel::Kind::kText: return PieceKind::kText;
    case SentencePieceModel::Kind::kByte: return PieceKind::kByte;
    case SentencePieceModel::Kind::kUnknown: return PieceKind::kUnknown;
    case SentencePieceModel::Kind::kControl: break;
  }
  return PieceKind::kSymbol;
}

std::string SentencePieceTokenizer::Decode(std::span<const int32_t> ids) const {
  for (int32_t id : ids) CHECK(id >= 0 && id < vocabulary()) << "id " << id << ", vocabulary " << vocabulary();
  if (!exact_) return model_.Decode({ids.begin(), ids.end()});
  std::string text;
  for (int32_t id : ids) text += surfaces_[id];
  return text;
}

}  // namespace trefoil
