// What the documents of token files are, where a sample is not a stretch of text but a record: a sentence and its
// translation, a text and its label, a conversation and what of it is to be learnt.
//
//   RecordDescription description = {.parts = {RecordPart::kText, RecordPart::kLabel}, .labels = {"bad", "good"}, ...};
//   TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, prefix + ".json", ToJson(description)));
//
// A record is `parts` documents in a row. Its description lies beside each pair of token files, PREFIX.json beside
// PREFIX.bin and PREFIX.idx, so that a pair that is moved or matched by a pattern keeps its own:
//
//   {"parts": ["text", "label"], "labels": ["bad", "good"], "vocabulary": 4096, "tokenizer": "1f2e3d4c"}
//
//   parts       kinds of a record's documents, in their order
//   labels      names of the labels, in the order of their ids; absent without labels
//   vocabulary  the tokenizer's: ids of text are below it
//   tokenizer   Tokenizer::checksum in hex: these ids mean what that tokenizer says
//
// What a document holds, by its kind:
//   source, target   a sentence and its translation          tokens, at least 1
//   text, text_pair  a text, or two that belong together     tokens, at least 1
//   label            the class of all text parts             one id in [0, labels)
//   token_labels     a label for each token of `text`        as many ids: 0 for none, else 1 + label
//   value            a number that belongs to the text parts the 4 bytes of a float32, from the low one
//   conversation     messages one after the other            tokens, at least 2
//   answers          which of its tokens are to be learnt    as many ids: 1 for a token of an answer, else 0
// No text part has an end of text of its own, but a conversation has one after each message.
// Example: the record ("good film", 1) with tokens 40 and 97 for its text: documents [40, 97] and [1].
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

enum class RecordPart { kSource, kTarget, kText, kTextPair, kLabel, kTokenLabels, kValue, kConversation, kAnswers };

// "source", "token_labels" ...
const char* Name(RecordPart part);
// "source, target"
std::string Names(std::span<const RecordPart> parts);
// Whether its ids are the tokenizer's.
bool IsText(RecordPart part);

struct RecordDescription {
  std::vector<RecordPart> parts = {};
  std::vector<std::string> labels = {};
  int64_t vocabulary = 0;
  uint32_t tokenizer = 0;

  // Which of the parts it is; -1 if there is none of the kind.
  int Find(RecordPart part) const;
  // Ids of all documents are below it: what TokenFileWriter wants.
  int64_t StoredVocabulary() const;
  bool operator==(const RecordDescription&) const = default;
};

std::string ToJson(const RecordDescription& description);
// `path` is for messages. Failure: what is wrong, with field and value.
absl::StatusOr<RecordDescription> ParseRecordDescription(const std::string& json, const std::string& path);
// "labels a, b, not a, c": the first that `found` has otherwise than `expected`; empty if they are equal.
std::string Difference(const RecordDescription& found, const RecordDescription& expected);

// A float as the four ids that a part of kind `value` holds, and back.
std::vector<int32_t> ValueIds(float value);
float ValueOf(std::span<const int32_t> ids);

}  // namespace trefoil
