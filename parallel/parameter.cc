#include "parallel/parameter.h"

#include <glog/logging.h>

namespace trefoil {
void ParameterTable::Add(Parameter parameter) {
  CHECK(numbers_.emplace(parameter.name, parameters_.size()).second) << parameter.name << " declared twice";
  CHECK(parameter.shape.rank() == 1 || parameter.shape.rank() == 2) << parameter.name;
  CHECK(parameter.split_dim < parameter.shape.rank()) << parameter.name;
  CHECK(parameter.split_dim < 0 || !parameter.used_on_split_tokens) << parameter.name;
  if (parameter.fused_with_previous) {
    CHECK(!parameters_.empty() && parameters_.back().home == parameter.home) << parameter.name;
  }
  parameters_.push_back(std::move(parameter));
}

const Parameter& ParameterTable::Find(const std::string& name) const {
  const auto found = numbers_.find(name);
  CHECK(found != numbers_.end()) << "no parameter " << name;
  return parameters_[found->second];
}

int64_t ParameterTable::elements() const {
  int64_t n = 0;
  for (const Parameter& parameter : parameters_) n += parameter.shape.elements();
  return n;
}

}  // namespace trefoil
