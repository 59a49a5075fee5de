// The files of a tokenizer, and their names in a folder.
//
//   TREFOIL_ASSIGN_OR_RETURN(TokenizerFiles files, ReadTokenizerFiles(fs, "smollm2/tokenizer.json"));
//   files.checksum();                              // "5d3a01ff": tells tokenizers apart
//   TREFOIL_RETURN_IF_ERROR(WriteTokenizerFiles(fs, "runs/a", files));
//
// A folder (of token files, a run, a model of Hugging Face's) has one tokenizer: `tokenizer.json` or else
// `tokenizer.model`. Beside it may lie `tokenizer_config.json`, which names the symbols that begin and end texts, and
// `chat_template.jinja`; they go where the tokenizer goes. One that another has replaced lies there as
// tokenizer-HASH.json, with its companions tokenizer_config-HASH.json and chat_template-HASH.jinja: a companion's name
// has what its tokenizer's has after "tokenizer".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct TokenizerFiles {
  bool json = false;          // else SentencePiece's
  std::string content;        // of the tokenizer itself
  std::string config;         // of tokenizer_config.json; empty: there is none
  std::string chat_template;  // of chat_template.jinja; empty: there is none

  bool empty() const { return content.empty(); }
  bool operator==(const TokenizerFiles&) const = default;
  // CRC32C of `content` in hex; empty of none.
  std::string checksum() const;
};

// "tokenizer.json" or "tokenizer.model"; with `checksum`, the name that a replaced one is kept under.
std::string TokenizerFileName(bool json, std::string_view checksum = {});
// Whether a file of this name in a folder is a tokenizer, in use or kept, or its companion.
bool IsTokenizerFile(std::string_view name);
// The path of the tokenizer in `folder`; empty if it has none.
std::string TokenizerIn(FileSystem& fs, const std::string& folder);
// Of a replaced tokenizer that a run's folder keeps; empty if it has none.
std::string KeptTokenizerIn(FileSystem& fs, const std::string& folder, std::string_view checksum);

// `path`: the file, whose name ends in .json or is SentencePiece's, or a folder that has one.
absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(FileSystem& fs, const std::string& path);
// Under their names in `folder`, each atomically and the tokenizer last; companions that `files` lack are removed, and
// so is a tokenizer of the other kind. With `checksum`, under the names of a replaced one.
absl::Status WriteTokenizerFiles(FileSystem& fs, const std::string& folder, const TokenizerFiles& files,
                                 std::string_view checksum = {});

}  // namespace trefoil
