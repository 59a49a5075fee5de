#include "data/tokens/json/bpe_trainer.h"

#include <absl/container/flat_hash_map.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <queue>

#include "data/tokens/json/byte_alphabet.h"
#include "data/tokens/json/vocabulary.h"

namespace trefoil {
namespace {

constexpr char kEnd[] = "<|endoftext|>";
constexpr int32_t kFirstByte = 1;
constexpr int32_t kFirstMerge = kFirstByte + 256;
constexpr int64_t kLeast = 2;  // occurrences of a pair

using Pair = std::pair<int32_t, int32_t>;

// Bytes in the order of their characters.
std::array<unsigned char, 256> BytesInOrder() {
  std::array<unsigned char, 256> bytes;
  for (int byte = 0; byte < 256; ++byte) bytes[byte] = static_cast<unsigned char>(byte);
  // UTF-8 keeps the order of characters.
  std::sort(bytes.begin(), bytes.end(),
            [](unsigned char a, unsigned char b) { return ByteCharacter(a) < ByteCharacter(b); });
  return bytes;
}

// The pair that occurs most often is on top; what it says of that may be out of date.
struct Candidate {
  int64_t count;
  Pair pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Merger {
 public:
  explicit Merger(const WordCounts& words) {
    std::array<int32_t, 256> ids;
    const auto bytes = BytesInOrder();
    for (int32_t i = 0; i < 256; ++i) ids[bytes[i]] = kFirstByte + i;
    size_t all = 0;
    for (const auto& [word, count] : words) all += word.size();
    symbols_.reserve(all);
    for (const auto& [word, count] : words) {
      words_.push_back({.first = symbols_.size(), .size = static_cast<uint32_t>(word.size()), .count = count});
      for (const char byte : word) symbols_.push_back(ids[static_cast<unsigned char>(byte)]);
    }
    for (uint32_t w = 0; w < words_.size(); ++w) {
      const int32_t* symbols = &symbols_[words_[w].first];
      for (uint32_t i = 0; i + 1 < words_[w].size; ++i) Change({symbols[i], symbols[i + 1]}, words_[w].count, w);
    }
    for (const auto& [pair, places] : pairs_) queue_.push({.count = places.count, .pair = pair});
    changed_.clear();
  }

  // False if no pair is left that occurs often enough.
  bool Next(int32_t id, Pair* merged) {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(top.pair);
      if (found == pairs_.end()) continue;
      if (found->second.count != top.count) {
        if (found->second.count >= kLeast) queue_.push({.count = found->second.count, .pair = top.pair});
        continue;
      }
      if (top.count < kLeast) return false;
      std::vector<uint32_t> words = std::move(found->second.words);
      pairs_.erase(found);
      *merged = top.pair;
      for (const uint32_t word : words) MergeIn(word, top.pair, id);
      for (const Pair& pair : changed_) {
        const auto places = pairs_.find(pair);
        if (places == pairs_.end() || places->second.count < kLeast) continue;
        queue_.push({.count = places->second.count, .pair = pair});
      }
      changed_.clear();
      return true;
    }
    return false;
  }

 private:
  struct Word {
    size_t first;   // of symbols_
    uint32_t size;  // shrinks
    int64_t count;
  };
  struct Places {
    int64_t count = 0;
    std::vector<uint32_t> words;  // that may have it, ascending but for repeats
  };

  // Of a pair of a word: there once more, or once less.
  void Change(Pair pair, int64_t by, uint32_t word) {
    Places& places = pairs_[pair];
    places.count += by;
    if (by < 0) return;
    if (places.words.empty() || places.words.back() != word) places.words.push_back(word);
    changed_.push_back(pair);
  }

  void MergeIn(uint32_t number, Pair pair, int32_t id) {
    Word& word = words_[number];
    int32_t* symbols = &symbols_[word.first];
    uint32_t out = 0;
    for (uint32_t in = 0; in < word.size; ++in) {
      if (in + 1 == word.size || symbols[in] != pair.first || symbols[in + 1] != pair.second) {
        symbols[out++] = symbols[in];
        continue;
      }
      // The pair itself is out of pairs_ and comes back only as what overlapped it.
      if (out > 0) {
        Lose({symbols[out - 1], pair.first}, pair, word.count, number);
        Change({symbols[out - 1], id}, word.count, number);
      }
      if (in + 2 < word.size) {
        Lose({pair.second, symbols[in + 2]}, pair, word.count, number);
        Change({id, symbols[in + 2]}, word.count, number);
      }
      symbols[out++] = id;
      ++in;
    }
    word.size = out;
  }

  void Lose(Pair lost, Pair merged, int64_t count, uint32_t word) {
    if (lost != merged) Change(lost, -count, word);
  }

  std::vector<int32_t> symbols_;
  std::vector<Word> words_;
  absl::flat_hash_map<Pair, Places> pairs_;
  std::vector<Pair> changed_;  // counts that have grown since
  std::priority_queue<Candidate> queue_;
};

}  // namespace

std::vector<std::pair<int32_t, int32_t>> LearnMerges(const WordCounts& words, size_t merges) {
  Merger merger(words);
  std::vector<Pair> learnt;
  Pair pair;
  while (learnt.size() < merges && merger.Next(kFirstMerge + static_cast<int32_t>(learnt.size()), &pair))
    learnt.push_back(pair);
  return learnt;
}

absl::StatusOr<TokenizerFiles> TrainByteBpe(const WordCounts& words, int64_t vocabulary) {
  if (vocabulary <= kFirstMerge || vocabulary > Vocabulary::kMost) {
    return absl::InvalidArgumentError(absl::StrCat("vocabulary: ", vocabulary,
                                                   ": the 256 bytes and the end of text take ", kFirstMerge,
                                                   "; must be in [", kFirstMerge + 1, ", ", Vocabulary::kMost, "]"));
  }
  const std::vector<Pair> merges = LearnMerges(words, static_cast<size_t>(vocabulary - kFirstMerge));
  if (kFirstMerge + static_cast<int64_t>(merges.size()) < vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat("vocabulary: ", vocabulary, ": the text supports no more than ",
                                                   kFirstMerge + merges.size(),
                                                   " pieces; take at most that, or more text"));
  }
  using Json = nlohmann::ordered_json;
  std::vector<std::string> tokens = {kEnd};
  for (const unsigned char byte : BytesInOrder()) tokens.emplace_back(ByteCharacter(byte));
  Json written = Json::array(), vocab = Json::object();
  for (const auto& [left, right] : merges) {
    written.push_back(tokens[left] + " " + tokens[right]);
    tokens.push_back(tokens[left] + tokens[right]);
  }
  for (size_t id = 0; id < tokens.size(); ++id) vocab.push_back({tokens[id], id});
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  const Json cut = {{"type", "Split"}, {"pattern", {{"Regex", kWordPattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  const Json file = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens",
       Json::array({{{"id", 0}, {"content", kEnd}, {"single_word", false}, {"lstrip", false}, {"rstrip", false},
                     {"normalized", false}, {"special", true}}})},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", Json::array({cut, byte_level})}}},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model",
       {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr}, {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr}, {"fuse_unk", false}, {"byte_fallback", false}, {"ignore_merges", false},
        {"vocab", std::move(vocab)}, {"merges", std::move(written)}}}};
  const Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"eos_token", kEnd}, {"clean_up_tokenization_spaces", false}};
  TokenizerFiles files;
  files.json = true;
  files.content = file.dump() + "\n";
  files.config = config.dump(2) + "\n";
  return files;
}

}  // namespace trefoil
