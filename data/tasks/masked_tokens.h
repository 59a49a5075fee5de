// Texts with some tokens hidden, which an encoder is to find: masked-language modelling (Devlin, Chang, Lee &
// Toutanova, "BERT: pre-training of deep bidirectional transformers for language understanding", NAACL 2019, section
// 3.1), the hidden places new in every epoch (Liu et al., "RoBERTa", 2019, section 4.1).
//
//   TREFOIL_ASSIGN_OR_RETURN(auto text, Loader::Open(globs, MaskedTokens::TextLength(128), vocabulary, seed));
//   const SpecialTokens special = EncoderTokens(tokenizer.end_of_text(), vocabulary);
//   MaskedTokens samples(std::move(text), special, vocabulary, seed, {.rate = 0.15});
//   TREFOIL_ASSIGN_OR_RETURN(Batch batch, samples.Get(/*first_sample=*/0, /*count=*/8));
//
// A sample is [begin] text [separator], T tokens, of which the text is n = T - 2. In each, K = max(1, round(rate * n))
// places of the text are chosen. Of the chosen, 80% become the mask, 10% a random token of the tokenizer, 10% stay as
// they are; all are targets. So U = K and
//
//   inputs [B, T]   targets [B, K]: the tokens that were there   places [B, K]: where in the input, ascending
//
// With whole words (`begins_word`) it is words that are chosen, in random order, each with all its tokens: one that
// would make more than K is passed over, and the first is cut to K if all are longer than that. A place without use is
// T - 1 with weight 0, and batches have weights.
//
// Which places and what becomes of them is a function of (seed, number of the sample in the run), frozen by a test.
// Another rate for evaluation is another instance.
//
// Threads: const calls from any.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "data/samples.h"
#include "data/tasks/draws.h"
#include "data/tasks/special_tokens.h"
#include "data/tokens/loader.h"

namespace trefoil {

struct MaskingOptions {
  double rate = 0.15;  // of the text's tokens, in (0, 1]
  // Of each id of the tokenizer (Tokenizer::BeginsWord): whole words are chosen. Empty: tokens.
  std::vector<bool> begins_word = {};
};

class MaskedTokens : public Samples {
 public:
  // The sequence_length of a Loader whose samples fill inputs of T tokens, which is at least 4: such a sample has one
  // token more.
  static int64_t TextLength(int64_t inputs_length) { return inputs_length - 3; }
  // K of inputs of T tokens.
  static int64_t Targets(int64_t inputs_length, double rate) {
    return std::max<int64_t>(1, std::llround(rate * static_cast<double>(inputs_length - 2)));
  }

  // `vocabulary`: the tokenizer's, of which random tokens are, the special ones excepted.
  MaskedTokens(std::unique_ptr<const Loader> text, const SpecialTokens& special, int64_t vocabulary, uint64_t seed,
               MaskingOptions options);

  const Loader& text() const { return *text_; }
  int64_t length() const { return text_length_ + 2; }  // T
  int64_t targets() const { return targets_; }         // K
  int64_t samples() const override { return text_->samples(); }
  // Failure: as Loader::Get.
  absl::StatusOr<Batch> Get(int64_t first_sample, int64_t count) const override;
  bool weighted() const override { return !options_.begins_word.empty(); }

 private:
  // Ascending places in `text`: K of them, or at most K with whole words.
  std::vector<int64_t> Choose(std::span<const int32_t> text, Draws& draws) const;
  std::vector<int64_t> ChooseWords(std::span<const int32_t> text, Draws& draws) const;
  // What becomes of a chosen token.
  int32_t Hide(int32_t token, Draws& draws) const;

  const std::unique_ptr<const Loader> text_;
  const SpecialTokens special_;
  const int64_t vocabulary_;
  const uint64_t key_;
  const MaskingOptions options_;
  const int64_t text_length_;  // n
  const int64_t targets_;
};

}  // namespace trefoil
