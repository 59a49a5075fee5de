#include "data/chat/chat_run.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "data/chat/chat_functions.h"

namespace trefoil::chat {
namespace {

using Or = absl::StatusOr<Value>;

enum class Flow { kOn, kBreak, kContinue };

class Runner {
 public:
  Runner(Dict variables, std::tm now, const Limits& limits) : now_(now), limits_(limits), budget_(limits.steps) {
    scopes_.push_back({});
    for (auto& [name, value] : variables) scopes_.front()[name] = std::move(value);
  }

  absl::StatusOr<std::string> Run(const Node& tree) {
    TREFOIL_RETURN_IF_ERROR(Do(tree).status());
    return std::move(output_);
  }

 private:
  using Scope = std::map<std::string, Value>;

  static absl::Status At(const Node& node, const absl::Status& status) {
    const std::string message(status.message());
    if (status.ok() || message.starts_with("line ")) return status;
    return absl::Status(status.code(), absl::StrCat("line ", node.line, ": ", message));
  }
  template <typename... Parts>
  static absl::Status Wrong(const Node& node, const Parts&... parts) {
    return absl::InvalidArgumentError(absl::StrCat("line ", node.line, ": ", parts...));
  }
  absl::Status Spend(const Node& node, int64_t steps = 1) {
    budget_ -= steps;
    return budget_ >= 0 ? absl::OkStatus() : Wrong(node, "more than ", limits_.steps, " steps");
  }
  absl::Status SpendBytes(const Node& node, size_t bytes) { return Spend(node, static_cast<int64_t>(bytes / 64)); }

  absl::Status Print(const Node& node, const std::string& text) {
    output_ += text;
    if (static_cast<int64_t>(output_.size()) > limits_.output) {
      return Wrong(node, "writes more than ", limits_.output, " bytes");
    }
    return SpendBytes(node, text.size());
  }

  class Deeper {
   public:
    explicit Deeper(int* depth) : depth_(depth) { ++*depth_; }
    ~Deeper() { --*depth_; }

   private:
    int* depth_;
  };

  // ---- statements ----

  absl::StatusOr<Flow> Do(const Node& node) {
    TREFOIL_RETURN_IF_ERROR(Spend(node));
    const Deeper deeper(&depth_);
    if (depth_ > limits_.depth) return Wrong(node, "goes deeper than ", limits_.depth);
    switch (node.kind) {
      case NodeKind::kBlock:
        for (const auto& statement : node.children) {
          TREFOIL_ASSIGN_OR_RETURN(const Flow flow, Do(*statement));
          if (flow != Flow::kOn) return flow;
        }
        return Flow::kOn;
      case NodeKind::kText:
        TREFOIL_RETURN_IF_ERROR(Print(node, node.text));
        return Flow::kOn;
      case NodeKind::kOutput: {
        TREFOIL_ASSIGN_OR_RETURN(const Value value, Eval(*node.children[0]));
        TREFOIL_RETURN_IF_ERROR(Print(node, value.ToText()));
        return Flow::kOn;
      }
      case NodeKind::kIf: {
        TREFOIL_ASSIGN_OR_RETURN(const Value condition, Eval(*node.children[0]));
        if (condition.truth()) return Do(*node.children[1]);
        return node.children[2] == nullptr ? Flow::kOn : Do(*node.children[2]);
      }
      case NodeKind::kFor:
        return Loop(node);
      case NodeKind::kSet:
        TREFOIL_RETURN_IF_ERROR(Set(node));
        return Flow::kOn;
      case NodeKind::kSetBlock: {
        TREFOIL_ASSIGN_OR_RETURN(Value text, Captured(*node.children[0]));
        scopes_.back()[node.names[0]] = std::move(text);
        return Flow::kOn;
      }
      case NodeKind::kMacro:
        scopes_.back()[node.text] = Macro{&node};
        return Flow::kOn;
      case NodeKind::kBreak:
        return Flow::kBreak;
      case NodeKind::kContinue:
        return Flow::kContinue;
      default:
        return Wrong(node, "an expression where a statement is expected");
    }
  }

  // What a block writes.
  Or Captured(const Node& block) {
    std::string before = std::exchange(output_, "");
    const auto flow = Do(block);
    std::string text = std::exchange(output_, std::move(before));
    TREFOIL_RETURN_IF_ERROR(flow.status());
    return Value(std::move(text));
  }

  absl::Status Set(const Node& node) {
    TREFOIL_ASSIGN_OR_RETURN(Value value, Eval(*node.children[0]));
    if (node.names.size() == 1) {
      scopes_.back()[node.names[0]] = std::move(value);
      return absl::OkStatus();
    }
    const Value space = Look(node.names[0]);
    const auto* held = space.As<std::shared_ptr<Namespace>>();
    if (held == nullptr) return Wrong(node, node.names[0], " is no namespace, and only one's attributes can be set");
    Dict& values = (*held)->values;
    for (auto& [name, old] : values) {
      if (name == node.names[1]) return old = std::move(value), absl::OkStatus();
    }
    values.emplace_back(node.names[1], std::move(value));
    return absl::OkStatus();
  }

  absl::Status Bind(const Node& node, const Value& element, Scope* scope) {
    if (node.names.size() == 1) return (*scope)[node.names[0]] = element, absl::OkStatus();
    const List* parts = element.list();
    if (parts == nullptr || parts->size() != node.names.size()) {
      return Wrong(node, "a loop over ", node.names.size(), " names, and an element is no list of as many");
    }
    for (size_t i = 0; i < parts->size(); ++i) (*scope)[node.names[i]] = (*parts)[i];
    return absl::OkStatus();
  }

  absl::StatusOr<Flow> Loop(const Node& node) {
    TREFOIL_ASSIGN_OR_RETURN(const Value sequence, Eval(*node.children[0]));
    const absl::StatusOr<List> all = Elements(sequence);
    TREFOIL_RETURN_IF_ERROR(At(node, all.status()));
    List elements;
    scopes_.push_back({});
    for (const Value& element : *all) {
      TREFOIL_RETURN_IF_ERROR(Spend(node));
      if (node.children[2] != nullptr) {
        TREFOIL_RETURN_IF_ERROR(Bind(node, element, &scopes_.back()));
        TREFOIL_ASSIGN_OR_RETURN(const Value wanted, Eval(*node.children[2]));
        if (!wanted.truth()) continue;
      }
      elements.push_back(element);
    }
    const auto count = static_cast<int64_t>(elements.size());
    for (int64_t i = 0; i < count; ++i) {
      // What is set within one pass is gone in the next.
      scopes_.back().clear();
      Dict loop = {{"index", i + 1},          {"index0", i},   {"first", i == 0},
                   {"last", i + 1 == count}, {"length", count}, {"revindex", count - i}, {"revindex0", count - i - 1}};
      if (i > 0) loop.emplace_back("previtem", elements[static_cast<size_t>(i - 1)]);
      if (i + 1 < count) loop.emplace_back("nextitem", elements[static_cast<size_t>(i + 1)]);
      scopes_.back()["loop"] = Value(std::move(loop));
      TREFOIL_RETURN_IF_ERROR(Bind(node, elements[static_cast<size_t>(i)], &scopes_.back()));
      TREFOIL_ASSIGN_OR_RETURN(const Flow flow, Do(*node.children[1]));
      if (flow == Flow::kBreak) break;
    }
    scopes_.pop_back();
    if (count == 0 && node.children[3] != nullptr) return Do(*node.children[3]);
    return Flow::kOn;
  }

  // ---- expressions ----

  Value Look(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto found = scope->find(name);
      if (found != scope->end()) return found->second;
    }
    if (IsFunction(name)) return Macro{nullptr};
    return Undefined{name};
  }

  Or Eval(const Node& node) {
    TREFOIL_RETURN_IF_ERROR(Spend(node));
    const Deeper deeper(&depth_);
    if (depth_ > 4 * limits_.depth) return Wrong(node, "goes deeper than ", 4 * limits_.depth);
    Or value = Compute(node);
    TREFOIL_RETURN_IF_ERROR(At(node, value.status()));
    if (value->text() != nullptr) TREFOIL_RETURN_IF_ERROR(SpendBytes(node, value->text()->size()));
    if (value->text() != nullptr && static_cast<int64_t>(value->text()->size()) > limits_.output) {
      return Wrong(node, "makes a text of more than ", limits_.output, " bytes");
    }
    if (value->list() != nullptr) TREFOIL_RETURN_IF_ERROR(Spend(node, static_cast<int64_t>(value->list()->size())));
    return value;
  }

  Or Compute(const Node& node) {
    switch (node.kind) {
      case NodeKind::kString:
        return Value(node.text);
      case NodeKind::kInteger:
        return Value(node.integer);
      case NodeKind::kFloat:
        return Value(node.number);
      case NodeKind::kTrue:
      case NodeKind::kFalse:
        return Value(node.kind == NodeKind::kTrue);
      case NodeKind::kNone:
        return Value(None{});
      case NodeKind::kName:
        return Look(node.text);
      case NodeKind::kList: {
        List list;
        for (const auto& child : node.children) {
          TREFOIL_ASSIGN_OR_RETURN(Value element, Eval(*child));
          list.push_back(std::move(element));
        }
        return Value(std::move(list));
      }
      case NodeKind::kDict: {
        Dict dict;
        for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
          TREFOIL_ASSIGN_OR_RETURN(const Value key, Eval(*node.children[i]));
          TREFOIL_ASSIGN_OR_RETURN(Value element, Eval(*node.children[i + 1]));
          if (key.text() == nullptr) return Wrong(node, "a key that is no text is not in the subset");
          dict.emplace_back(*key.text(), std::move(element));
        }
        return Value(std::move(dict));
      }
      case NodeKind::kAttribute: {
        TREFOIL_ASSIGN_OR_RETURN(const Value object, Eval(*node.children[0]));
        return Attribute(object, node.text);
      }
      case NodeKind::kItem: {
        TREFOIL_ASSIGN_OR_RETURN(const Value object, Eval(*node.children[0]));
        TREFOIL_ASSIGN_OR_RETURN(const Value index, Eval(*node.children[1]));
        return Item(object, index);
      }
      case NodeKind::kSlice: {
        TREFOIL_ASSIGN_OR_RETURN(const Value object, Eval(*node.children[0]));
        std::optional<int64_t> parts[3];
        for (size_t i = 0; i < 3; ++i) {
          if (node.children[i + 1] == nullptr) continue;
          TREFOIL_ASSIGN_OR_RETURN(const Value part, Eval(*node.children[i + 1]));
          if (part.none()) continue;
          if (part.As<int64_t>() == nullptr) return Wrong(node, "a slice by what is no whole number");
          parts[i] = *part.As<int64_t>();
        }
        return Slice(object, parts[0], parts[1], parts[2].value_or(1));
      }
      case NodeKind::kCall:
        return Call(node);
      case NodeKind::kFilter: {
        TREFOIL_ASSIGN_OR_RETURN(const Value value, Eval(*node.children[0]));
        TREFOIL_ASSIGN_OR_RETURN(const Arguments arguments, ArgumentsOf(node));
        return Filter(node.text, value, arguments);
      }
      case NodeKind::kTest: {
        TREFOIL_ASSIGN_OR_RETURN(const Value value, Eval(*node.children[0]));
        TREFOIL_ASSIGN_OR_RETURN(const Arguments arguments, ArgumentsOf(node));
        return Test(node.text, value, arguments);
      }
      case NodeKind::kUnary: {
        TREFOIL_ASSIGN_OR_RETURN(const Value operand, Eval(*node.children[0]));
        if (node.text == "not") return Value(!operand.truth());
        if (!operand.number()) return Wrong(node, "the sign ", node.text, " of a ", operand.kind());
        if (node.text == "+") return operand;
        if (const auto* integer = operand.As<int64_t>()) return Value(-*integer);
        return Value(-operand.AsDouble());
      }
      case NodeKind::kBinary: {
        TREFOIL_ASSIGN_OR_RETURN(const Value left, Eval(*node.children[0]));
        if (node.text == "and" && !left.truth()) return left;
        if (node.text == "or" && left.truth()) return left;
        TREFOIL_ASSIGN_OR_RETURN(Value right, Eval(*node.children[1]));
        if (node.text == "and" || node.text == "or") return right;
        return Operator(node.text, left, right);
      }
      case NodeKind::kCondition: {
        TREFOIL_ASSIGN_OR_RETURN(const Value condition, Eval(*node.children[1]));
        if (condition.truth()) return Eval(*node.children[0]);
        return node.children[2] == nullptr ? Or(Value()) : Eval(*node.children[2]);
      }
      default:
        return Wrong(node, "a statement where an expression is expected");
    }
  }

  absl::StatusOr<Arguments> ArgumentsOf(const Node& node) {
    Arguments arguments;
    for (size_t i = 1; i < node.children.size(); ++i) {
      TREFOIL_ASSIGN_OR_RETURN(Value value, Eval(*node.children[i]));
      const std::string name = i - 1 < node.names.size() ? node.names[i - 1] : "";
      if (name.empty()) {
        arguments.placed.push_back(std::move(value));
      } else {
        arguments.named.emplace_back(name, std::move(value));
      }
    }
    return arguments;
  }

  Or Call(const Node& node) {
    const Node& callee = *node.children[0];
    TREFOIL_ASSIGN_OR_RETURN(const Arguments arguments, ArgumentsOf(node));
    if (callee.kind == NodeKind::kAttribute) {
      TREFOIL_ASSIGN_OR_RETURN(const Value object, Eval(*callee.children[0]));
      return Method(object, callee.text, arguments);
    }
    if (callee.kind != NodeKind::kName) return Wrong(node, "a call of what is no name");
    const Value held = Look(callee.text);
    const Macro* macro = held.As<Macro>();
    if (macro != nullptr && macro->node != nullptr) return CallMacro(node, *macro->node, arguments);
    if (macro == nullptr && !held.undefined()) return Wrong(node, callee.text, " is a ", held.kind(), ", which cannot be called");
    return Function(callee.text, arguments, now_);
  }

  // A macro sees what is set outside of all loops and blocks, and its parameters.
  Or CallMacro(const Node& call, const Node& macro, const Arguments& arguments) {
    if (arguments.placed.size() > macro.names.size()) {
      return Wrong(call, "macro ", macro.text, " has ", macro.names.size(), " parameters");
    }
    Scope scope;
    for (size_t i = 0; i < macro.names.size(); ++i) {
      const Value* named = Find(arguments.named, macro.names[i]);
      if (i < arguments.placed.size()) {
        scope[macro.names[i]] = arguments.placed[i];
      } else if (named != nullptr) {
        scope[macro.names[i]] = *named;
      } else if (macro.children[i + 1] != nullptr) {
        TREFOIL_ASSIGN_OR_RETURN(scope[macro.names[i]], Eval(*macro.children[i + 1]));
      } else {
        scope[macro.names[i]] = Undefined{macro.names[i]};
      }
    }
    for (const auto& [name, value] : arguments.named) {
      if (!scope.contains(name)) return Wrong(call, "macro ", macro.text, " has no parameter ", name);
    }
    std::vector<Scope> outside(std::make_move_iterator(scopes_.begin() + 1), std::make_move_iterator(scopes_.end()));
    scopes_.resize(1);
    scopes_.push_back(std::move(scope));
    Or text = Captured(*macro.children[0]);
    scopes_.resize(1);
    scopes_.insert(scopes_.end(), std::make_move_iterator(outside.begin()), std::make_move_iterator(outside.end()));
    return text;
  }

  const std::tm now_;
  const Limits limits_;
  int64_t budget_;
  int depth_ = 0;
  std::string output_;
  std::vector<Scope> scopes_;  // the outermost first
};

}  // namespace

absl::StatusOr<std::string> RunTemplate(const Node& tree, Dict variables, std::tm now, const Limits& limits) {
  return Runner(std::move(variables), now, limits).Run(tree);
}

}  // namespace trefoil::chat
