#include "data/chat/template_tree.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <initializer_list>

#include "data/chat/template_tokens.h"

namespace trefoil::chat {
namespace {

using NodePtr = std::unique_ptr<Node>;

constexpr int kDeepest = 100;        // of what nests
constexpr int64_t kMostNodes = 20000;


class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<NodePtr> Run() {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr block, Block({}));
    return block;
  }

 private:
  class Deeper {
   public:
    explicit Deeper(int* depth) : depth_(depth) { ++*depth_; }
    ~Deeper() { --*depth_; }

   private:
    int* depth_;
  };

  const Token& now() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  bool Is(TokenKind kind, std::string_view text) const { return now().kind == kind && now().text == text; }
  bool IsName(std::string_view text) const { return Is(TokenKind::kName, text); }
  bool IsSign(std::string_view text) const { return Is(TokenKind::kOperator, text); }
  bool Take(TokenKind kind, std::string_view text) {
    if (!Is(kind, text)) return false;
    ++at_;
    return true;
  }
  bool TakeSign(std::string_view text) { return Take(TokenKind::kOperator, text); }
  bool TakeName(std::string_view text) { return Take(TokenKind::kName, text); }

  absl::Status Wrong(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat("line ", now().line, ": ", what));
  }
  absl::Status Unexpected(const std::string& wanted) const {
    const std::string found = now().kind == TokenKind::kEnd ? "the end" : absl::StrCat("'", now().text, "'");
    return Wrong(absl::StrCat(found, ", where ", wanted, " is expected"));
  }
  absl::Status Need(TokenKind kind, std::string_view text) {
    return Take(kind, text) ? absl::OkStatus() : Unexpected("'" + std::string(text) + "'");
  }
  absl::StatusOr<std::string> Name() {
    if (now().kind != TokenKind::kName) return Unexpected("a name");
    return tokens_[at_++].text;
  }
  absl::Status EndBlock() {
    if (now().kind != TokenKind::kEndBlock) return Unexpected("the end of the tag");
    ++at_;
    return absl::OkStatus();
  }
  absl::StatusOr<NodePtr> New(NodeKind kind, std::string text = {}) {
    if (++nodes_ > kMostNodes) return Wrong("more than the subset's 20000 parts");
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = now().line;
    node->text = std::move(text);
    return node;
  }
  absl::StatusOr<NodePtr> New(NodeKind kind, std::string text, std::initializer_list<NodePtr*> children) {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr node, New(kind, std::move(text)));
    for (NodePtr* child : children) node->children.push_back(std::move(*child));
    return node;
  }

  // ---- statements ----

  bool AtTag(std::initializer_list<std::string_view> names) const {
    if (now().kind != TokenKind::kBeginBlock || next().kind != TokenKind::kName) return false;
    for (const std::string_view name : names) {
      if (next().text == name) return true;
    }
    return false;
  }

  // Statements up to one of these tags, or to the end of the template where there are none.
  absl::StatusOr<NodePtr> Block(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(&depth_);
    if (depth_ > kDeepest) return Wrong("more than 100 blocks or brackets within each other");
    TREFOIL_ASSIGN_OR_RETURN(NodePtr block, New(NodeKind::kBlock));
    while (!AtTag(ends)) {
      if (now().kind == TokenKind::kEnd) {
        if (ends.size() == 0) break;
        return Unexpected("{% " + std::string(*(ends.end() - 1)) + " %}");
      }
      TREFOIL_ASSIGN_OR_RETURN(NodePtr statement, Statement());
      if (statement != nullptr) block->children.push_back(std::move(statement));
    }
    return block;
  }

  absl::StatusOr<NodePtr> Statement() {
    if (now().kind == TokenKind::kText) {
      TREFOIL_ASSIGN_OR_RETURN(NodePtr text, New(NodeKind::kText, now().text));
      ++at_;
      return text;
    }
    if (now().kind == TokenKind::kBeginOutput) {
      ++at_;
      TREFOIL_ASSIGN_OR_RETURN(NodePtr value, Expression());
      if (now().kind != TokenKind::kEndOutput) return Unexpected("}}");
      ++at_;
      return New(NodeKind::kOutput, "", {&value});
    }
    if (now().kind != TokenKind::kBeginBlock) return Unexpected("text or a tag");
    ++at_;
    TREFOIL_ASSIGN_OR_RETURN(const std::string name, Name());
    if (name == "if") return If();
    if (name == "for") return For();
    if (name == "set") return Set();
    if (name == "macro") return Macro();
    if (name == "generation") return Generation();
    if (name == "break" || name == "continue") {
      if (loops_ == 0) return Wrong(absl::StrCat("{% ", name, " %} outside of a loop"));
      TREFOIL_ASSIGN_OR_RETURN(NodePtr node, New(name == "break" ? NodeKind::kBreak : NodeKind::kContinue));
      TREFOIL_RETURN_IF_ERROR(EndBlock());
      return node;
    }
    return Wrong(absl::StrCat("{% ", name, " %} is not in the subset, which has if, for, set, macro, break, continue, "
                              "generation"));
  }

  // Behind the name.
  absl::StatusOr<NodePtr> If() {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr condition, Expression());
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    TREFOIL_ASSIGN_OR_RETURN(NodePtr then, Block({"elif", "else", "endif"}));
    ++at_;
    TREFOIL_ASSIGN_OR_RETURN(const std::string name, Name());
    NodePtr otherwise;
    if (name == "elif") {
      const Deeper deeper(&depth_);
      if (depth_ > kDeepest) return Wrong("more than 100 blocks or brackets within each other");
      TREFOIL_ASSIGN_OR_RETURN(otherwise, If());
      return New(NodeKind::kIf, "", {&condition, &then, &otherwise});
    }
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    if (name == "else") {
      TREFOIL_ASSIGN_OR_RETURN(otherwise, Block({"endif"}));
      at_ += 2;
      TREFOIL_RETURN_IF_ERROR(EndBlock());
    }
    return New(NodeKind::kIf, "", {&condition, &then, &otherwise});
  }

  absl::StatusOr<NodePtr> For() {
    std::vector<std::string> names;
    do {
      TREFOIL_ASSIGN_OR_RETURN(std::string name, Name());
      names.push_back(std::move(name));
    } while (TakeSign(","));
    TREFOIL_RETURN_IF_ERROR(Need(TokenKind::kName, "in"));
    TREFOIL_ASSIGN_OR_RETURN(NodePtr sequence, Or());
    NodePtr filter, otherwise;
    if (TakeName("if")) {
      TREFOIL_ASSIGN_OR_RETURN(filter, Expression());
    }
    if (IsName("recursive")) return Wrong("a loop that is recursive is not in the subset");
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    ++loops_;
    TREFOIL_ASSIGN_OR_RETURN(NodePtr block, Block({"else", "endfor"}));
    --loops_;
    ++at_;
    if (TakeName("else")) {
      TREFOIL_RETURN_IF_ERROR(EndBlock());
      TREFOIL_ASSIGN_OR_RETURN(otherwise, Block({"endfor"}));
      ++at_;
    }
    ++at_;
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    TREFOIL_ASSIGN_OR_RETURN(NodePtr node, New(NodeKind::kFor, "", {&sequence, &block, &filter, &otherwise}));
    node->names = std::move(names);
    return node;
  }

  absl::StatusOr<NodePtr> Set() {
    std::vector<std::string> names;
    TREFOIL_ASSIGN_OR_RETURN(std::string name, Name());
    names.push_back(std::move(name));
    if (TakeSign(".")) {
      TREFOIL_ASSIGN_OR_RETURN(std::string attribute, Name());
      names.push_back(std::move(attribute));
    }
    if (IsSign(",")) return Wrong("{% set %} of several names is not in the subset");
    if (TakeSign("=")) {
      TREFOIL_ASSIGN_OR_RETURN(NodePtr value, Expression());
      if (IsSign(",")) return Wrong("a tuple without brackets is not in the subset");
      TREFOIL_RETURN_IF_ERROR(EndBlock());
      TREFOIL_ASSIGN_OR_RETURN(NodePtr node, New(NodeKind::kSet, "", {&value}));
      node->names = std::move(names);
      return node;
    }
    if (names.size() > 1) return Unexpected("'='");
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    TREFOIL_ASSIGN_OR_RETURN(NodePtr block, Block({"endset"}));
    at_ += 2;
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    TREFOIL_ASSIGN_OR_RETURN(NodePtr node, New(NodeKind::kSetBlock, "", {&block}));
    node->names = std::move(names);
    return node;
  }

  absl::StatusOr<NodePtr> Macro() {
    TREFOIL_ASSIGN_OR_RETURN(std::string name, Name());
    TREFOIL_ASSIGN_OR_RETURN(NodePtr node, New(NodeKind::kMacro, std::move(name)));
    node->children.emplace_back();
    TREFOIL_RETURN_IF_ERROR(Need(TokenKind::kOperator, "("));
    while (!TakeSign(")")) {
      if (!node->names.empty()) TREFOIL_RETURN_IF_ERROR(Need(TokenKind::kOperator, ","));
      TREFOIL_ASSIGN_OR_RETURN(std::string parameter, Name());
      node->names.push_back(std::move(parameter));
      node->children.emplace_back();
      if (TakeSign("=")) {
        TREFOIL_ASSIGN_OR_RETURN(node->children.back(), Expression());
      }
    }
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    const int loops = std::exchange(loops_, 0);
    TREFOIL_ASSIGN_OR_RETURN(node->children.front(), Block({"endmacro"}));
    loops_ = loops;
    at_ += 2;
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    return node;
  }

  // Marks what an assistant says, for training; here it is its block.
  absl::StatusOr<NodePtr> Generation() {
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    TREFOIL_ASSIGN_OR_RETURN(NodePtr block, Block({"endgeneration"}));
    at_ += 2;
    TREFOIL_RETURN_IF_ERROR(EndBlock());
    return block;
  }

  // ---- expressions, from what binds least ----

  absl::StatusOr<NodePtr> Expression() {
    const Deeper deeper(&depth_);
    if (depth_ > kDeepest) return Wrong("more than 100 blocks or brackets within each other");
    TREFOIL_ASSIGN_OR_RETURN(NodePtr value, Or());
    while (TakeName("if")) {
      TREFOIL_ASSIGN_OR_RETURN(NodePtr condition, Or());
      NodePtr otherwise;
      if (TakeName("else")) {
        TREFOIL_ASSIGN_OR_RETURN(otherwise, Expression());
      }
      TREFOIL_ASSIGN_OR_RETURN(value, New(NodeKind::kCondition, "", {&value, &condition, &otherwise}));
    }
    return value;
  }

  absl::StatusOr<NodePtr> Or() {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr left, And());
    while (TakeName("or")) {
      TREFOIL_ASSIGN_OR_RETURN(NodePtr right, And());
      TREFOIL_ASSIGN_OR_RETURN(left, New(NodeKind::kBinary, "or", {&left, &right}));
    }
    return left;
  }

  absl::StatusOr<NodePtr> And() {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr left, Not());
    while (TakeName("and")) {
      TREFOIL_ASSIGN_OR_RETURN(NodePtr right, Not());
      TREFOIL_ASSIGN_OR_RETURN(left, New(NodeKind::kBinary, "and", {&left, &right}));
    }
    return left;
  }

  absl::StatusOr<NodePtr> Not() {
    const Deeper deeper(&depth_);
    if (depth_ > kDeepest) return Wrong("more than 100 blocks or brackets within each other");
    if (!TakeName("not")) return Compare();
    TREFOIL_ASSIGN_OR_RETURN(NodePtr operand, Not());
    return New(NodeKind::kUnary, "not", {&operand});
  }

  absl::StatusOr<NodePtr> Compare() {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr left, Sum());
    bool compared = false;
    while (true) {
      std::string sign;
      for (const char* one : {"==", "!=", "<=", ">=", "<", ">"}) {
        if (IsSign(one)) sign = one;
      }
      if (IsName("in")) sign = "in";
      if (IsName("not") && next().kind == TokenKind::kName && next().text == "in") sign = "not in";
      if (sign.empty()) return left;
      if (compared) return Wrong("comparisons in a row (a < b < c) are not in the subset");
      compared = true;
      at_ += sign == "not in" ? 2 : 1;
      TREFOIL_ASSIGN_OR_RETURN(NodePtr right, Sum());
      TREFOIL_ASSIGN_OR_RETURN(left, New(NodeKind::kBinary, sign, {&left, &right}));
    }
  }

  absl::StatusOr<NodePtr> Sum() {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr left, Joined());
    while (IsSign("+") || IsSign("-")) {
      const std::string sign = tokens_[at_++].text;
      TREFOIL_ASSIGN_OR_RETURN(NodePtr right, Joined());
      TREFOIL_ASSIGN_OR_RETURN(left, New(NodeKind::kBinary, sign, {&left, &right}));
    }
    return left;
  }

  absl::StatusOr<NodePtr> Joined() {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr left, Product());
    while (TakeSign("~")) {
      TREFOIL_ASSIGN_OR_RETURN(NodePtr right, Product());
      TREFOIL_ASSIGN_OR_RETURN(left, New(NodeKind::kBinary, "~", {&left, &right}));
    }
    return left;
  }

  absl::StatusOr<NodePtr> Product() {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr left, Unary());
    while (IsSign("*") || IsSign("/") || IsSign("//") || IsSign("%") || IsSign("**")) {
      const std::string sign = tokens_[at_++].text;
      if (sign == "**" || sign == "/") return Wrong(absl::StrCat("the operator ", sign, " is not in the subset"));
      TREFOIL_ASSIGN_OR_RETURN(NodePtr right, Unary());
      TREFOIL_ASSIGN_OR_RETURN(left, New(NodeKind::kBinary, sign, {&left, &right}));
    }
    return left;
  }

  absl::StatusOr<NodePtr> Unary() {
    if (IsSign("-") || IsSign("+")) {
      const Deeper deeper(&depth_);
      if (depth_ > kDeepest) return Wrong("more than 100 blocks or brackets within each other");
      const std::string sign = tokens_[at_++].text;
      TREFOIL_ASSIGN_OR_RETURN(NodePtr operand, Unary());
      return New(NodeKind::kUnary, sign, {&operand});
    }
    TREFOIL_ASSIGN_OR_RETURN(NodePtr value, Primary());
    TREFOIL_ASSIGN_OR_RETURN(value, Postfix(std::move(value)));
    return Filters(std::move(value));
  }

  absl::StatusOr<NodePtr> Primary() {
    const Token& token = now();
    if (token.kind == TokenKind::kString) {
      TREFOIL_ASSIGN_OR_RETURN(NodePtr node, New(NodeKind::kString));
      while (now().kind == TokenKind::kString) node->text += tokens_[at_++].text;
      return node;
    }
    if (token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat) {
      const bool real = token.kind == TokenKind::kFloat;
      TREFOIL_ASSIGN_OR_RETURN(NodePtr node, New(real ? NodeKind::kFloat : NodeKind::kInteger));
      if (real ? !absl::SimpleAtod(token.text, &node->number) : !absl::SimpleAtoi(token.text, &node->integer)) {
        return Wrong(absl::StrCat("the number ", token.text, " is too large"));
      }
      ++at_;
      return node;
    }
    if (token.kind == TokenKind::kName) {
      ++at_;
      const std::string& name = token.text;
      if (name == "true" || name == "True") return New(NodeKind::kTrue);
      if (name == "false" || name == "False") return New(NodeKind::kFalse);
      if (name == "none" || name == "None") return New(NodeKind::kNone);
      return New(NodeKind::kName, name);
    }
    if (TakeSign("(")) {
      TREFOIL_ASSIGN_OR_RETURN(NodePtr value, Expression());
      if (!IsSign(",")) {
        TREFOIL_RETURN_IF_ERROR(Need(TokenKind::kOperator, ")"));
        return value;
      }
      TREFOIL_ASSIGN_OR_RETURN(NodePtr list, New(NodeKind::kList, "", {&value}));
      while (TakeSign(",") && !IsSign(")")) {
        TREFOIL_ASSIGN_OR_RETURN(NodePtr element, Expression());
        list->children.push_back(std::move(element));
      }
      TREFOIL_RETURN_IF_ERROR(Need(TokenKind::kOperator, ")"));
      return list;
    }
    if (TakeSign("[")) return Elements(NodeKind::kList, "]");
    if (TakeSign("{")) return Elements(NodeKind::kDict, "}");
    return Unexpected("a value");
  }

  absl::StatusOr<NodePtr> Elements(NodeKind kind, std::string_view close) {
    TREFOIL_ASSIGN_OR_RETURN(NodePtr node, New(kind));
    while (!TakeSign(close)) {
      if (!node->children.empty()) {
        TREFOIL_RETURN_IF_ERROR(Need(TokenKind::kOperator, ","));
        if (TakeSign(close)) break;
      }
      TREFOIL_ASSIGN_OR_RETURN(NodePtr element, Expression());
      node->children.push_back(std::move(element));
      if (kind != NodeKind::kDict) continue;
      TREFOIL_RETURN_IF_ERROR(Need(TokenKind::kOperator, ":"));
      TREFOIL_ASSIGN_OR_RETURN(NodePtr value, Expression());
      node->children.push_back(std::move(value));
    }
    return node;
  }

  absl::StatusOr<NodePtr> Postfix(NodePtr value) {
    while (true) {
      if (TakeSign(".")) {
        TREFOIL_ASSIGN_OR_RETURN(std::string name, Name());
        TREFOIL_ASSIGN_OR_RETURN(value, New(NodeKind::kAttribute, std::move(name), {&value}));
      } else if (TakeSign("[")) {
        TREFOIL_ASSIGN_OR_RETURN(value, Subscript(std::move(value)));
      } else if (TakeSign("(")) {
        TREFOIL_ASSIGN_OR_RETURN(NodePtr call, New(NodeKind::kCall, "", {&value}));
        TREFOIL_RETURN_IF_ERROR(Arguments(call.get()));
        value = std::move(call);
      } else {
        return value;
      }
    }
  }

  absl::StatusOr<NodePtr> Subscript(NodePtr value) {
    NodePtr parts[3];
    int colons = 0;
    while (!TakeSign("]")) {
      if (TakeSign(":")) {
        if (++colons > 2) return Wrong("a slice has two colons at most");
        continue;
      }
      if (parts[colons] != nullptr) return Unexpected("']'");
      TREFOIL_ASSIGN_OR_RETURN(parts[colons], Expression());
    }
    if (colons > 0) return New(NodeKind::kSlice, "", {&value, &parts[0], &parts[1], &parts[2]});
    if (parts[0] == nullptr) return Unexpected("an index");
    return New(NodeKind::kItem, "", {&value, &parts[0]});
  }

  // Behind the bracket.
  absl::Status Arguments(Node* call) {
    for (bool first = true; !TakeSign(")"); first = false) {
      if (!first) {
        TREFOIL_RETURN_IF_ERROR(Need(TokenKind::kOperator, ","));
        if (TakeSign(")")) break;
      }
      if (IsSign("*") || IsSign("**")) return Wrong("arguments by * are not in the subset");
      std::string name;
      if (now().kind == TokenKind::kName && next().kind == TokenKind::kOperator && next().text == "=") {
        name = now().text;
        at_ += 2;
      }
      TREFOIL_ASSIGN_OR_RETURN(NodePtr argument, Expression());
      call->children.push_back(std::move(argument));
      call->names.push_back(std::move(name));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<NodePtr> Filters(NodePtr value) {
    while (true) {
      if (TakeSign("|")) {
        TREFOIL_ASSIGN_OR_RETURN(std::string name, Name());
        TREFOIL_ASSIGN_OR_RETURN(value, New(NodeKind::kFilter, std::move(name), {&value}));
        if (TakeSign("(")) TREFOIL_RETURN_IF_ERROR(Arguments(value.get()));
      } else if (TakeName("is")) {
        const bool negated = TakeName("not");
        TREFOIL_ASSIGN_OR_RETURN(std::string name, Name());
        TREFOIL_ASSIGN_OR_RETURN(value, New(NodeKind::kTest, std::move(name), {&value}));
        if (TakeSign("(")) {
          TREFOIL_RETURN_IF_ERROR(Arguments(value.get()));
        } else if (now().kind == TokenKind::kString || now().kind == TokenKind::kInteger) {
          TREFOIL_ASSIGN_OR_RETURN(NodePtr argument, Primary());
          value->children.push_back(std::move(argument));
        }
        if (negated) {
          TREFOIL_ASSIGN_OR_RETURN(value, New(NodeKind::kUnary, "not", {&value}));
        }
      } else if (IsSign("(") && value->kind == NodeKind::kFilter) {
        return Wrong("a call of what a filter gives is not in the subset");
      } else {
        return value;
      }
    }
  }

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
  int64_t nodes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Node>> ParseTemplate(std::string_view source) {
  TREFOIL_ASSIGN_OR_RETURN(std::vector<Token> tokens, TokensOfTemplate(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace trefoil::chat
