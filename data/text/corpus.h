// Text files to blocks of text, in bounded memory.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto paths, ExpandInputs({"corpus/*.txt|*.jsonl[.gz|.zst]"}));
//   TREFOIL_ASSIGN_OR_RETURN(auto slices, SliceInputs(paths, /*slice_bytes=*/64 << 20));
//   for (const TextSlice& slice : slices) {
//     TREFOIL_RETURN_IF_ERROR(ReadSlice(slice, /*block_bytes=*/16 << 10, /*any_bytes=*/false,
//                                       [&](const TextBlock& block) { ... }));
//   }
//
// Kinds of file, by name:
//   x.txt       one document: the file, byte for byte (a UTF-8 mark at its front is dropped)
//   x.jsonl     one document a line: the string field "text" of a JSON object; empty lines are skipped
//   x.txt.gz, x.jsonl.zst ...   the same, compressed by gzip or Zstandard
//   any other name: as .txt
// Text is UTF-8: a .txt that is something else is refused (data/text/text_check.h) unless `any_bytes` is asked for.
// JSON is UTF-8 by itself.
//
// A *block* is what is handed over at once: a document is cut at the first blank line after each `block_bytes`; where
// there is none within 4 times that, at a newline; else at 8 times that, between two characters. The blocks of a
// document put together are the document. A *slice* is a part of the input that can be read alone, so that ranks can
// share a large file: an uncompressed file is cut every `slice_bytes` (.txt at the next blank line, .jsonl at the next
// line), a compressed one is one slice. A document of .txt ends where its slice ends. Slices and blocks depend on the
// files and the two sizes only.
//
// Failure: each error names the file and the rule, and for .jsonl the line. Threads: none shared; call from any.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

// The files that the inputs match, sorted, each once. An input is a path, or shell patterns separated by '|'; a pattern
// without a folder is looked for in the folder of the one before it; "[.gz|.zst]" at the end means with or without. What
// is the name of a file is that file, even with the characters of a pattern in it ("x[1].txt").
// Failure: an input of which no pattern matches a file, or a folder.
absl::StatusOr<std::vector<std::string>> ExpandInputs(const std::vector<std::string>& inputs);

struct TextSlice {
  std::string path;
  int64_t begin = 0;  // bytes of the file as stored; cuts are looked for from here on
  int64_t end = 0;
  bool whole = true;  // the file is one slice
  int64_t bytes() const { return end - begin; }
};

absl::StatusOr<std::vector<TextSlice>> SliceInputs(const std::vector<std::string>& paths, int64_t slice_bytes);

struct TextBlock {
  std::string_view text;       // valid during the call; may be empty only where the document is
  bool ends_document = false;  // the last of its document
  double slice_done = 0;       // share of the slice read so far, in [0, 1]
  int64_t bad_bytes = 0;       // of the text, that are not UTF-8
};

// Calls `block` with each block of the slice in order; an error that it returns ends the reading and is returned.
// `any_bytes`: takes what is not text too. Memory: some blocks, the longest .jsonl line, and 2 MB.
absl::Status ReadSlice(const TextSlice& slice, int64_t block_bytes, bool any_bytes,
                       const std::function<absl::Status(const TextBlock&)>& block);

// Whether a file of this name is .jsonl, compressed or not.
bool IsJsonLines(const std::string& path);

struct JsonLine {
  std::string_view json;  // valid during the call; not blank
  double slice_done = 0;  // share of the slice read so far, in [0, 1]
  const TextSlice* slice = nullptr;
  int64_t slice_begin = 0;    // byte of the file where the slice's first line begins
  int64_t line_in_slice = 0;  // from 1

  // "x.jsonl: line 12: " and `what`; counts the lines before the slice for it.
  absl::Status Error(const std::string& what) const;
};

// Calls `line` with each line of a .jsonl that begins in the slice, but blank ones; else as ReadSlice.
absl::Status ReadJsonLines(const TextSlice& slice, const std::function<absl::Status(const JsonLine&)>& line);

}  // namespace trefoil
