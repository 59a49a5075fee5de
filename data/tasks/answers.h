// Conversations of which a decoder is to learn the answers: fine-tuning on instructions (Ouyang et al., "Training
// language models to follow instructions with human feedback", NeurIPS 2022, section 3.1).
//
//   TREFOIL_ASSIGN_OR_RETURN(RecordSet records, RecordSet::Open({"chats/train-*"}));   // of {conversation, answers}
//   TREFOIL_ASSIGN_OR_RETURN(auto answers, Answers::Open(std::move(records), end_of_text, /*length=*/1024, seed));
//   TREFOIL_ASSIGN_OR_RETURN(Batch batch, answers->Get(/*first_sample=*/0, /*count=*/8));
//
// A conversation of n tokens is an input of the first n - 1 and targets that are the last n - 1, padded to T:
//
//   inputs [B, T]   targets [B, T]: token t + 1   weights [B, T]: 1 where that token is of an answer, else 0
//
// One of more than T + 1 tokens is dropped when the records are opened: its last answer would have no end. Samples come
// in the order of data/sampler.h.
//
// Threads: const calls from any.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/records/record_set.h"
#include "data/sampler.h"
#include "data/samples.h"

namespace trefoil {

class Answers : public Samples {
 public:
  // `length`: T, at least 1. Failure: records of other parts; all are too long.
  static absl::StatusOr<std::unique_ptr<Answers>> Open(RecordSet records, int32_t end_of_text, int64_t length,
                                                       uint64_t seed);

  const RecordSet& records() const { return records_; }
  int64_t samples() const override { return static_cast<int64_t>(kept_.size()); }
  // Conversations that are too long.
  int64_t dropped() const { return records_.size() - samples(); }

  // Failure: as RecordSet::Read.
  absl::StatusOr<Batch> Get(int64_t first_sample, int64_t count) const override;
  bool weighted() const override { return true; }

 private:
  Answers(RecordSet records, std::vector<int64_t> kept, int32_t end_of_text, int64_t length, uint64_t seed);

  const RecordSet records_;
  const std::vector<int64_t> kept_;  // records that are not too long
  const int32_t end_of_text_;
  const int64_t length_;
  const Sampler order_;
};

}  // namespace trefoil
