// A value of a template: what its expressions compute with.
//
// A plain value; lists, dicts and namespaces are shared, not copied.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace trefoil::chat {

struct Node;
class Value;

using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in order
struct Undefined {
  std::string name;  // of what is not there
};
struct None {};
// Dict that `{% set ns.x = ... %}` changes.
struct Namespace {
  Dict values;
};
// What can be called: one of the template's own, or, without a node, a function.
struct Macro {
  const Node* node;
};

class Value {
 public:
  using Held = std::variant<Undefined, None, bool, int64_t, double, std::string, std::shared_ptr<const List>,
                            std::shared_ptr<const Dict>, std::shared_ptr<Namespace>, Macro>;
  Value() : held_(Undefined{}) {}
  template <typename T>
    requires std::is_constructible_v<Held, T>
  Value(T held) : held_(std::move(held)) {}
  Value(const char* text) : held_(std::string(text)) {}
  Value(List list) : held_(std::make_shared<const List>(std::move(list))) {}
  Value(Dict dict) : held_(std::make_shared<const Dict>(std::move(dict))) {}

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&held_);
  }
  bool undefined() const { return As<Undefined>() != nullptr; }
  bool none() const { return As<None>() != nullptr; }
  const std::string* text() const { return As<std::string>(); }
  const List* list() const {
    const auto* held = As<std::shared_ptr<const List>>();
    return held == nullptr ? nullptr : held->get();
  }
  // Of a dict or a namespace.
  const Dict* dict() const;
  // Python's: of numbers, not of bools.
  bool number() const { return As<int64_t>() != nullptr || As<double>() != nullptr; }
  double AsDouble() const;

  // As Python has it: empty ones, zeros, None and what is not defined are false.
  bool truth() const;
  // What {{ }} prints: as Python's str().
  std::string ToText() const;
  // As json.dumps(ensure_ascii=False, indent=indent), 0: on one line.
  std::string ToJson(int indent) const;
  // "string", "list", ...: for messages.
  const char* kind() const;

 private:
  Held held_;
};

bool Same(const Value& a, const Value& b);
// Of a dict; null if it has none.
const Value* Find(const Dict& dict, const std::string& key);

}  // namespace trefoil::chat
