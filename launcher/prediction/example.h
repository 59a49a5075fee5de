// What a model is asked about: texts from the command line, from files of lines, from .jsonl files, or from records.
//
//   TREFOIL_ASSIGN_OR_RETURN(std::vector<Example> examples, ReadExamples(fs, {"news.de"}, task.kind(), tokenizer));
//   examples[0].record.text;                                          // the first line
//
// A file is, by its name,
//   x.jsonl[.gz|.zst]     a JSON object a line, as `trefoil tokenize --records` reads them (data/text/record_line.h);
//                         answers may be missing; of tasks on running text and of masks the field "text" counts
//   x, of x.bin and x.idx records in token files, with their answers; x may be a pattern
//   -                     standard input, lines
//   any other[.gz|.zst]   a text a line, UTF-8
//
// Failure: a file that is missing or empty; a line that is empty or not UTF-8, named by its number.
#pragma once

#include <string>
#include <vector>

#include "data/text/record_line.h"
#include "data/tokens/tokenizer.h"
#include "runtime/files/file.h"
#include "training/run.pb.h"

namespace trefoil {

struct Example {
  std::string place;  // "reviews.txt: line 3", for messages
  RecordLine record;  // what it says; of an image its path as the text
  // Of records in token files: the tokens of its texts, or of each of its words, as they are there. Empty: they are to
  // be made of the record.
  std::vector<int32_t> ids = {}, pair_ids = {};
  std::vector<std::vector<int32_t>> word_ids = {};
};

absl::StatusOr<std::vector<Example>> ReadExamples(FileSystem& fs, const std::vector<std::string>& inputs,
                                                  TaskConfig::Kind task, Tokenizer& tokenizer);
// One text.
absl::StatusOr<Example> ExampleOf(const std::string& text, const std::string& place);

}  // namespace trefoil
