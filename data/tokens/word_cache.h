// What an encoder remembers: the ids of words, which come again and again.
//
//   cache.Append(word, [&](std::vector<int32_t>* ids) { model.Encode(word, ids); }, &ids);
//
// Bounded: long words are not kept, and when there are too many all are forgotten, a few tens of MB.
//
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace trefoil {

class WordCache {
 public:
  static constexpr size_t kLongestWord = 64;  // bytes; longer ones are rarely seen twice

  // Appends to `ids` what `encode` once appended for this word.
  template <typename Encode>
  void Append(std::string_view word, const Encode& encode, std::vector<int32_t>* ids) {
    if (word.size() > kLongestWord) return encode(ids);
    auto found = words_.find(word);
    if (found == words_.end()) {
      if (words_.size() >= kWords) {
        words_.clear();
        ids_.clear();
      }
      const size_t first = ids_.size();
      encode(&ids_);
      found = words_.emplace(std::string(word), std::pair(first, ids_.size())).first;
    }
    const auto [first, last] = found->second;
    ids->insert(ids->end(), ids_.begin() + first, ids_.begin() + last);
  }

 private:
  static constexpr size_t kWords = 200000;

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  // The ids of a word are ids_[first, last).
  std::unordered_map<std::string, std::pair<size_t, size_t>, Hash, std::equal_to<>> words_;
  std::vector<int32_t> ids_;
};

}  // namespace trefoil
