// A template of Jinja's as a tree: what is parsed of it. The subset is told in data/chat/chat_template.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/status.h"

namespace trefoil::chat {

// Of an expression or a statement. `text` and `children` are told by kind; [x] is a child that may be missing (null).
enum class NodeKind {
  // Expressions.
  kString,     // text
  kInteger,    // integer
  kFloat,      // number
  kTrue, kFalse, kNone,
  kName,       // text
  kList,       // elements
  kDict,       // key, value, key, value ...
  kAttribute,  // object; text is the name
  kItem,       // object, index
  kSlice,      // object, [from], [to], [step]
  kCall,       // callee, arguments; names: of each argument, empty where it has none
  kFilter,     // value, arguments; text is its name; names
  kTest,       // value, arguments; text is its name
  kUnary,      // operand; text is "not", "-", "+"
  kBinary,     // left, right; text is the operator: "and", "or", "+", "~", "in", "not in", "==" ...
  kCondition,  // then, if, [else]
  // Statements.
  kBlock,      // statements
  kText,       // text
  kOutput,     // expression
  kIf,         // condition, block, [otherwise]
  kFor,        // sequence, block, [filter], [otherwise]; names: of the loop's variables
  kSet,        // value; names: one variable, or a namespace's and its attribute
  kSetBlock,   // block; names: one variable
  kMacro,      // block, then defaults (null where there is none), one a name; text is its name; names: its parameters
  kBreak, kContinue,
};

struct Node {
  NodeKind kind;
  int line = 0;
  std::string text = {};
  int64_t integer = 0;
  double number = 0;
  std::vector<std::unique_ptr<Node>> children = {};
  std::vector<std::string> names = {};
};

// Failure: a mistake of syntax, or a construct that is not in the subset, by its name and line.
absl::StatusOr<std::unique_ptr<Node>> ParseTemplate(std::string_view source);

}  // namespace trefoil::chat
