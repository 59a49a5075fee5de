#include "parallel/parameter.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <set>

namespace trefoil {

AxisSet Parameter::split_over() const {
  AxisSet axes;
  for (const ParameterSplit& split : splits) axes = axes | split.axis;
  return axes;
}

void ParameterTable::Add(Parameter parameter) {
  CHECK(numbers_.emplace(parameter.name, parameters_.size()).second) << parameter.name << " declared twice";
  CHECK(1 <= parameter.shape.rank() && parameter.shape.rank() <= 3) << parameter.name;
  AxisSet axes;
  std::set<int> dims;
  for (const ParameterSplit& split : parameter.splits) {
    CHECK(0 <= split.dim && split.dim < parameter.shape.rank()) << parameter.name;
    CHECK(dims.insert(split.dim).second && !axes.contains(split.axis)) << parameter.name << " is split twice";
    axes = axes | split.axis;
  }
  CHECK((axes & (parameter.partial_over | parameter.summed_over)).empty()) << parameter.name;
  if (parameter.fused_with_previous) {
    CHECK(!parameters_.empty() && parameters_.back().module == parameter.module) << parameter.name;
    CHECK(parameters_.back().splits == parameter.splits) << parameter.name;
    CHECK(parameters_.back().trained() == parameter.trained()) << parameter.name;
  }
  parameters_.push_back(std::move(parameter));
}

const Parameter& ParameterTable::Find(const std::string& name) const {
  const auto found = numbers_.find(name);
  CHECK(found != numbers_.end()) << "no parameter " << name;
  return parameters_[found->second];
}

int64_t ParameterTable::trained_elements() const {
  int64_t n = 0;
  for (const Parameter& parameter : parameters_) n += parameter.trained() ? parameter.shape.elements() : 0;
  return n;
}

int ParameterTable::first_trained_module() const {
  int first = std::numeric_limits<int>::max();
  for (const Parameter& parameter : parameters_) {
    if (!parameter.trained()) continue;
    first = std::min(first, parameter.module);
    for (const int module : parameter.tied_modules) first = std::min(first, module);
  }
  CHECK_LT(first, std::numeric_limits<int>::max()) << "nothing is trained";
  return first;
}

int64_t ParameterTable::elements() const {
  int64_t n = 0;
  for (const Parameter& parameter : parameters_) n += parameter.shape.elements();
  return n;
}

}  // namespace trefoil
