// Lines of JSON to records in token files: the work of `trefoil tokenize --records`, one share of it or all.
//
//   TREFOIL_ASSIGN_OR_RETURN(const CorpusPlan corpus, PlanCorpus({.inputs = {"reviews/*.jsonl"}, .held_out = 0.05}));
//   TREFOIL_ASSIGN_OR_RETURN(RecordPlan plan, PlanRecords(corpus, {.kind = RecordKind::kLabels}, progress));
//   TREFOIL_ASSIGN_OR_RETURN(CorpusCounts counts,
//                            TokenizeRecordShare(fs, plan, folder, tokenizer, rank, ranks, progress));
//
// A line becomes a record (data/text/record_line.h), its texts, labels and flags a document each
// (data/records/record_description.h). What is written are files as those of TokenizeShare, with a description beside
// each pair; the same, byte for byte, for any number of shares.
//
// Held out is a share of the records, so that no text that is evaluated on is trained on: a hash of (seed, first text)
// chooses, so records with the same first text are on one side; a record that this holds out while its first or its
// second text is that of a record to train on goes to neither side. The first text is the source, the text, the words,
// or the first message of a user; the second the target or text_pair. Texts are the same if their bytes are.
//
// Classes: names are numbered in the order of `labels`, or in alphabetical order without; numbers stay as they are,
// named "0", "1" ... up to the largest. A corpus whose parts are written by several runs, such as one that comes
// divided into training and test, needs `labels` or all classes in each.
//
// Memory: 8 bytes for each text to train on, and what TokenizeShare takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/records/record_description.h"
#include "data/text/record_line.h"
#include "data/text/tokenize_corpus.h"
#include "runtime/status.h"

namespace trefoil {

struct RecordOptions {
  RecordKind kind = RecordKind::kPairs;
  std::vector<std::string> labels = {};  // names of classes in the order of their ids; empty: those that occur
  int64_t sample_bytes = 0;              // of text to train on that is kept for training a tokenizer
};

struct RecordPlan {
  CorpusPlan corpus;
  RecordOptions options;
  RecordDescription description = {};         // but for what the tokenizer says
  std::vector<uint64_t> training_texts = {};  // hashes, ascending
  std::vector<std::string> sample = {};       // about sample_bytes of texts to train on
  int64_t train = 0;                          // records
  int64_t held_out = 0;                       // those
  int64_t neither = 0;                        // chosen to be held out, with a text that is trained on
};

// Reads all input, so that a mistake in any line is found before anything is written. Failure: files that are not
// .jsonl; the first line that is wrong, or of another shape than the first of all, with file and number; `labels` for
// records without classes.
absl::StatusOr<RecordPlan> PlanRecords(const CorpusPlan& corpus, const RecordOptions& options,
                                       const CorpusProgress& progress);

// As TokenizeShare; documents counts records. Failure: a text that has no token under the tokenizer.
absl::StatusOr<CorpusCounts> TokenizeRecordShare(FileSystem& fs, const RecordPlan& plan, const std::string& folder,
                                                 Tokenizer& tokenizer, int share, int shares,
                                                 const CorpusProgress& progress);

}  // namespace trefoil
