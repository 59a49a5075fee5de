// What templates can do with values: operators, filters, tests, methods and functions, by their names. What is not here is
// refused by its name. Messages have no line: who runs a template adds it.
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>

#include "data/chat/chat_value.h"
#include "runtime/status.h"

namespace trefoil::chat {

struct Arguments {
  List placed;
  Dict named;
  // Number i, or that of the name; null if there is none.
  const Value* Get(size_t i, const std::string& name) const;
};

// What a loop goes over: a list's elements, a dict's keys, a text's characters.
absl::StatusOr<List> Elements(const Value& value);
absl::StatusOr<Value> Attribute(const Value& object, const std::string& name);
absl::StatusOr<Value> Item(const Value& object, const Value& index);
absl::StatusOr<Value> Slice(const Value& object, std::optional<int64_t> from, std::optional<int64_t> to, int64_t step);
// But "and" and "or".
absl::StatusOr<Value> Operator(const std::string& name, const Value& a, const Value& b);
absl::StatusOr<Value> Filter(const std::string& name, const Value& value, const Arguments& arguments);
absl::StatusOr<Value> Test(const std::string& name, const Value& value, const Arguments& arguments);
absl::StatusOr<Value> Method(const Value& object, const std::string& name, const Arguments& arguments);
// range, namespace, dict, raise_exception, strftime_now.
bool IsFunction(const std::string& name);
absl::StatusOr<Value> Function(const std::string& name, const Arguments& arguments, const std::tm& now);

}  // namespace trefoil::chat
