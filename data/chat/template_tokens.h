// A template's text as tokens, with the white space that blocks take with them gone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/status.h"

namespace trefoil::chat {

enum class TokenKind {
  kText,                        // between blocks
  kBeginOutput, kEndOutput,     // {{ }}
  kBeginBlock, kEndBlock,       // {% %}
  kName, kString, kInteger, kFloat, kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;  // of a string its value
  int line = 0;
};

// As Jinja with trim_blocks and lstrip_blocks, which Hugging Face's templates are made for: the newline behind a block is
// its, and so is the white space before it where it begins a line. Ends with kEnd.
absl::StatusOr<std::vector<Token>> TokensOfTemplate(std::string_view source);

}  // namespace trefoil::chat
