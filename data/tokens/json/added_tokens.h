// The tokens of a tokenizer.json that are found in the text before anything else is done with it.
//
//   TREFOIL_ASSIGN_OR_RETURN(AddedTokens added, AddedTokens::Parse(file.root().Get("added_tokens"), model_vocabulary));
//   finder.Split(text, [&](std::string_view part, int32_t id) { ... });   // "Hi", -1; "<|im_end|>", 2
//
// Of those that match at one place the longest is taken, from left to right. `normalized` ones are looked for in the
// normalized text, the others in the text as it is. Options: lstrip and rstrip take the white space beside with them;
// single_word wants no letter, digit or mark beside; special: decoding leaves it out.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokens/json/json_value.h"
#include "data/tokens/json/vocabulary.h"
#include "runtime/status.h"

namespace trefoil {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;
};

// Finds some added tokens by their text.
class TokenFinder {
 public:
  // `token` outlives this. Of two with one text the first counts.
  void Add(std::string text, const AddedToken* token);
  bool empty() const { return tokens_.empty(); }
  // Calls give(part, id of the token, or -1) for every part of `text`, in order; none is empty but a token's.
  template <typename Give>
  void Split(std::string_view text, const Give& give) const {
    size_t done = 0;
    for (size_t at = 0; const AddedToken* token = Next(text, &at);) {
      auto [begin, end] = std::pair(at, at + found_bytes_);
      at = end;
      if (token->single_word && !StandsAlone(text, begin, end)) continue;
      if (token->lstrip) begin = std::max(done, SpaceBefore(text, begin));
      if (token->rstrip) end = SpaceAfter(text, end);
      if (done < begin) give(text.substr(done, begin - done), -1);
      give(text.substr(begin, end - begin), token->id);
      done = end;
    }
    if (done < text.size()) give(text.substr(done), -1);
  }

 private:
  // The next match at *at or later, null if there is none. Sets its place, and found_bytes_.
  const AddedToken* Next(std::string_view text, size_t* at) const;
  static bool StandsAlone(std::string_view text, size_t begin, size_t end);
  static size_t SpaceBefore(std::string_view text, size_t at);
  static size_t SpaceAfter(std::string_view text, size_t at);

  absl::flat_hash_map<std::string, const AddedToken*> tokens_;
  std::vector<size_t> lengths_;  // of texts, the longest first
  std::bitset<256> first_bytes_;
  mutable size_t found_bytes_ = 0;
};

class AddedTokens {
 public:
  // Failure: besides what is malformed, an id that the `tokenizers` package would not give the token: that in the
  // model's vocabulary, else the next free one.
  static absl::StatusOr<AddedTokens> Parse(const JsonValue& value, const Vocabulary& model);

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const AddedToken* Find(int32_t id) const;
  const AddedToken* Find(std::string_view content) const;

 private:
  std::vector<AddedToken> tokens_;
  absl::flat_hash_map<int32_t, size_t> by_id_;
  absl::flat_hash_map<std::string, size_t> by_content_;
};

}  // namespace trefoil
