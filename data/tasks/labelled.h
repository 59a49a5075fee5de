// Texts with labels, for an encoder: classes of texts or of pairs of texts, labels of tokens, or a number to predict.
//
//   TREFOIL_ASSIGN_OR_RETURN(RecordSet records, RecordSet::Open({"reviews/train-*"}));   // of {text, label}
//   TREFOIL_ASSIGN_OR_RETURN(auto texts, LabelledTexts::Open(std::move(records), special, {.length = 128}, seed));
//   TREFOIL_ASSIGN_OR_RETURN(Batch batch, texts->Get(/*first_sample=*/0, /*count=*/8));
//
// An input is BERT's, padded to T, and cut to it (data/tasks/text_inputs.h): inputs and segments [B, T], lengths [B]. What is
// to come out depends on the last part of the records:
//
//   label          targets [B, 1]: the class          places [B, 1]: 0, the token [begin]
//   value          values [B, 1, 1]: the number       places [B, 1]: 0
//   token_labels   targets [B, T]: of each token      weights [B, T]: 1 where it has a label, else 0
//
// Samples come in the order of data/tasks/length_order.h, by the length of the input. With `limit` they are of that many
// records only, chosen by the seed, for experiments on few labels; a larger limit has the records of a smaller among its
// own.
//
// Batches are padded to T, so that all have one shape; with `shorten` on to what Lengths says of them.
//
// Threads: const calls from any.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/records/record_set.h"
#include "data/sampler.h"
#include "data/samples.h"
#include "data/tasks/length_order.h"
#include "data/tasks/special_tokens.h"

namespace trefoil {

struct LabelledOptions {
  int64_t length = 0;  // T
  int64_t limit = 0;   // records used; 0, or more than there are: all
  int64_t batch = 1;   // samples of a step, which are to be of similar length
  Shortening shorten = {};  // not with token_labels
};

class LabelledTexts : public Samples {
 public:
  enum class Kind { kClass, kTokenClass, kValue };

  // Failure: records of other parts; a length that leaves no token for each text.
  static absl::StatusOr<std::unique_ptr<LabelledTexts>> Open(RecordSet records, const SpecialTokens& special,
                                                             const LabelledOptions& options, uint64_t seed);

  Kind kind() const { return kind_; }
  // Names of the classes, by id; empty for values.
  const std::vector<std::string>& classes() const { return records_.description().labels; }
  // How many of all records, or of their tokens, are of each class, whatever the limit.
  const std::vector<int64_t>& class_counts() const { return records_.label_counts(); }
  const RecordSet& records() const { return records_; }
  int64_t samples() const override { return used_; }
  // Samples of an epoch whose texts are cut.
  int64_t cut() const { return cut_; }

  // Failure: as RecordSet::Read.
  absl::StatusOr<Batch> Get(int64_t first_sample, int64_t count) const override;
  bool weighted() const override { return kind_ == Kind::kTokenClass; }
  std::optional<SampleLengths> Lengths(int64_t first_sample, int64_t count) const override;

 private:
  LabelledTexts(RecordSet records, Kind kind, const SpecialTokens& special, const LabelledOptions& options,
                uint64_t seed);
  int64_t RecordOf(int64_t sample) const { return choice_.Index(order_.Index(sample)); }
  bool has_pair() const { return records_.parts() == 3; }
  // Of the whole input, but for what is cut.
  int64_t InputLength(int64_t record) const;

  const RecordSet records_;
  const Kind kind_;
  const SpecialTokens special_;
  const LabelledOptions options_;
  const int64_t used_;    // records
  const Sampler choice_;  // its first used_ numbers are the records used
  const LengthOrder order_;
  int64_t cut_ = 0;
};

}  // namespace trefoil
