// `trefoil tokenize`: text files to a tokenizer and token files.
//
//   trefoil tokenize --input='text/*.txt|*.jsonl[.gz|.zst]' --output=corpus --vocabulary=4096
//   mpirun -n 8 trefoil tokenize --input='text/*' --output=corpus --tokenizer=other/tokenizer.model
//
// writes corpus/tokenizer.model (or tokenizer.json with what lies beside it), corpus/train-00000.{bin,idx} ... and
// corpus/held_out-00000.{bin,idx} ... (Megatron's format, data/tokens/token_file.h). Without --tokenizer one is trained
// on the text that is not held out, or a sample of it. Ranks share the work by shards; the files are the same for any
// number of ranks.
//
//   trefoil tokenize --input='wmt14/*.jsonl.gz' --output=wmt14 --records=pairs --vocabulary=32000
//
// writes records (data/text/tokenize_records.h) in place of text, with a description beside each pair of files, as
// corpus/train-00000.json. Every rank then reads all input once before they share the work.
//
// All is written under OUTPUT/partial and moved to its place when everything is done: whoever finds token files in
// OUTPUT finds all of them. On failure OUTPUT/partial is removed and OUTPUT is as it was.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "data/text/tokenize_corpus.h"
#include "data/text/tokenize_records.h"
#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// Of the tokenizer that is trained: SentencePiece's BPE, on a sample of the text
// (data/tokens/sentencepiece_tokenizer.h), or byte-level BPE as a tokenizer.json, on all of it
// (data/tokens/json/bpe_trainer.h).
enum class TrainedKind { kSentencePiece, kByteBpe };

struct TokenizeRun {
  CorpusOptions corpus;
  std::string output;
  std::string tokenizer;   // a file or a folder with one; empty: train one
  TrainedKind kind = TrainedKind::kSentencePiece;
  int64_t vocabulary = 0;  // of the trained tokenizer, 0: 4096; with `tokenizer`, 0 or what it has
  std::optional<RecordKind> records = {};  // none: text
  std::vector<std::string> labels = {};    // as of RecordOptions
  bool overwrite = false;  // replace the token files and tokenizer that OUTPUT has
};

// Every rank of the group calls this with the same `run`; rank 0 shows progress and prints the summary to `out`.
// Returns the same on every rank.
absl::Status RunTokenize(FileSystem& fs, const TokenizeRun& run, Group& group, std::ostream& out);

}  // namespace trefoil
