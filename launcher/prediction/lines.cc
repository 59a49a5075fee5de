#include "launcher/prediction/lines.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace trefoil {

std::string OneLine(const std::string& text) {
  return absl::StrReplaceAll(text, {{"\n", " "}, {"\r", " "}, {"\t", " "}});
}

std::string JsonText(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::vector<Choice> Likeliest(std::span<const float> log_probabilities, int64_t count, int64_t limit) {
  std::vector<int64_t> order(static_cast<size_t>(std::min<int64_t>(limit, std::ssize(log_probabilities))));
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + std::min<int64_t>(count, std::ssize(order));
  std::partial_sort(order.begin(), end, order.end(), [&](int64_t a, int64_t b) {
    const float x = log_probabilities[static_cast<size_t>(a)], y = log_probabilities[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  std::vector<Choice> choices;
  for (auto id = order.begin(); id != end; ++id) {
    choices.push_back({.id = *id, .probability = std::exp(double{log_probabilities[static_cast<size_t>(*id)]})});
  }
  return choices;
}

ClassNames::ClassNames(const TaskConfig& task, int64_t classes)
    : known_(!task.class_names().empty()), names_(task.class_names().begin(), task.class_names().end()) {
  for (int64_t id = std::ssize(names_); id < classes; ++id) names_.push_back(absl::StrCat(id));
}

absl::StatusOr<int64_t> ClassNames::Find(const std::string& name, const std::string& place) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found != names_.end()) return found - names_.begin();
  const std::string nearest = NearestName(name, names_);
  return absl::InvalidArgumentError(
      absl::StrCat(place, ": label ", name, " is none of the model's ", names_.size(), " classes",
                   known_ ? "" : ", of which the run's config.pbtxt has no task.class_names",
                   nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
}

std::string ClassNames::Line(const std::vector<Choice>& choices) const {
  std::string line;
  for (const Choice& choice : choices) {
    absl::StrAppendFormat(&line, "%s%s\t%.4f", line.empty() ? "" : "\t", OneLine((*this)[choice.id]),
                          choice.probability);
  }
  return line;
}

nlohmann::ordered_json ClassNames::Json(const std::vector<Choice>& choices) const {
  auto json = nlohmann::ordered_json::array();
  for (const Choice& choice : choices) {
    json.push_back({{"label", (*this)[choice.id]}, {"probability", choice.probability}});
  }
  return json;
}

std::string Accuracy(int64_t right, int64_t all) {
  return absl::StrFormat("accuracy %.4f = %d of %d", static_cast<double>(right) / static_cast<double>(all), right, all);
}

}  // namespace trefoil
