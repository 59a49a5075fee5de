// What the kinds of answers have in common: how lines look, which classes are likely, how often they are right.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "runtime/status.h"
#include "training/run.pb.h"

namespace trefoil {

// For lines of text: newlines and tabs, which lines are made of, become spaces.
std::string OneLine(const std::string& text);
// A line; what is not UTF-8, as a piece of a character may be, is replaced.
std::string JsonText(const nlohmann::ordered_json& json);

// The likeliest of a row of log-probabilities, the best first. Only the first `limit` count.
struct Choice {
  int64_t id;
  double probability;
};
std::vector<Choice> Likeliest(std::span<const float> log_probabilities, int64_t count, int64_t limit);

// The classes that a model tells apart.
class ClassNames {
 public:
  ClassNames(const TaskConfig& task, int64_t classes);
  const std::string& operator[](int64_t id) const { return names_[static_cast<size_t>(id)]; }
  int64_t size() const { return static_cast<int64_t>(names_.size()); }
  // The id of a right answer. Failure: there is none of the name; `place` is where it stands.
  absl::StatusOr<int64_t> Find(const std::string& name, const std::string& place) const;
  // "name<TAB>probability" for each, tabs between; [{"label": ..., "probability": ...}].
  std::string Line(const std::vector<Choice>& choices) const;
  nlohmann::ordered_json Json(const std::vector<Choice>& choices) const;

 private:
  const bool known_;
  std::vector<std::string> names_;  // where they are not known the ids
};

// "accuracy 0.9132 = 274 of 300"
std::string Accuracy(int64_t right, int64_t all);

}  // namespace trefoil
