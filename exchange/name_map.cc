#include "exchange/name_map.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <map>

namespace trefoil {
namespace {

// "a.{q,k}.w" as {"a.q.w", "a.k.w"}.
std::vector<std::string> Alternatives(const std::string& name) {
  const size_t open = name.find('{'), close = name.find('}');
  if (open == std::string::npos) return {name};
  std::vector<std::string> names;
  for (const absl::string_view one : absl::StrSplit(name.substr(open + 1, close - open - 1), ',')) {
    names.push_back(absl::StrCat(name.substr(0, open), one, name.substr(close + 1)));
  }
  return names;
}

class Expander {
 public:
  Expander(const ModelConfig& model, const ParameterTable& table) : model_(model) {
    for (const Parameter& parameter : table.all()) left_.emplace(parameter.name, &parameter);
  }

  void Add(const NameRow& row) {
    if (row.when != nullptr && !row.when(model_)) return;
    if (!absl::StrContains(row.ours, '#')) return AddKinds(row, row.ours, row.theirs);
    const int blocks = std::max({model_.layers(), model_.decoder_layers(), 1});
    for (int block = 0; block < blocks; ++block) {
      const std::string number = std::to_string(block);
      AddKinds(row, absl::StrReplaceAll(row.ours, {{"#", number}}), absl::StrReplaceAll(row.theirs, {{"#", number}}));
    }
  }

  absl::StatusOr<std::vector<NamedTensor>> Done() {
    if (left_.empty()) return std::move(tensors_);
    std::vector<std::string> names;
    for (const auto& [name, parameter] : left_) names.push_back(name);
    return absl::UnimplementedError("without a name there: " + absl::StrJoin(names, ", "));
  }

 private:
  void AddKinds(const NameRow& row, const std::string& ours, const std::string& theirs) {
    if (!absl::StrContains(ours, '*')) return AddOne(row, ours, theirs);
    for (const char* kind : {"weight", "bias"}) {
      AddOne(row, absl::StrReplaceAll(ours, {{"*", kind}}), absl::StrReplaceAll(theirs, {{"*", kind}}));
    }
  }

  void AddOne(const NameRow& row, const std::string& ours, const std::string& theirs) {
    NamedTensor tensor = {.name = theirs, .shape = {}, .arrangement = row.arrangement, .parameters = {}};
    for (const std::string& name : Alternatives(ours)) {
      const auto it = left_.find(name);
      if (it == left_.end()) return;
      tensor.parameters.push_back(it->second);
    }
    for (const Parameter* parameter : tensor.parameters) left_.erase(parameter->name);
    const Shape& first = tensor.parameters.front()->shape;
    tensor.shape = {tensor.outputs()};
    for (int dim = 1; dim < first.rank(); ++dim) tensor.shape.push_back(first[dim]);
    // Biases lie the same way.
    if (first.rank() == 1)
      tensor.arrangement = row.arrangement == Arrangement::kTransposed ? Arrangement::kSame : row.arrangement;
    if (tensor.arrangement == Arrangement::kTransposed) std::reverse(tensor.shape.begin(), tensor.shape.end());
    if (row.shape != nullptr) tensor.shape = row.shape(model_);
    tensors_.push_back(std::move(tensor));
  }

  const ModelConfig& model_;
  std::map<std::string, const Parameter*> left_;
  std::vector<NamedTensor> tensors_;
};

}  // namespace

int64_t NamedTensor::outputs() const {
  int64_t sum = 0;
  for (const Parameter* parameter : parameters) sum += parameter->shape[0];
  return sum;
}

int64_t NamedTensor::inputs() const {
  const Shape& first = parameters.front()->shape;
  return first.elements() / first[0];
}

absl::StatusOr<std::vector<NamedTensor>> ExpandNames(std::span<const NameRow> rows, const ModelConfig& model,
                                                     const ParameterTable& table) {
  Expander expander(model, table);
  for (const NameRow& row : rows) expander.Add(row);
  return expander.Done();
}

bool MatchesName(const std::string& pattern, const std::string& name) {
  if (pattern.starts_with('*')) return name.ends_with(pattern.substr(1));
  if (pattern.ends_with('*')) return name.starts_with(pattern.substr(0, pattern.size() - 1));
  size_t at = 0;
  for (const char c : pattern) {
    if (c != '#') {
      if (at >= name.size() || name[at++] != c) return false;
      continue;
    }
    const size_t digits = at;
    while (at < name.size() && name[at] >= '0' && name[at] <= '9') ++at;
    if (at == digits) return false;
  }
  return at == name.size();
}

}  // namespace trefoil
