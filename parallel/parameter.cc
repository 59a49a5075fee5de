#include "parallel/parameter.h"

#include <algorithm>

namespace trefoil {
namespace {

auto FindByName(const std::vector<Parameter>& parameters, const std::string& name) {
  return std::find_if(parameters.begin(), parameters.end(), [&](const Parameter& p) { return p.name == name; });
}

}  // namespace

void ParameterTable::Add(Parameter parameter) {
  CHECK(FindByName(parameters_, parameter.name) == parameters_.end()) << parameter.name << " declared twice";
  CHECK(parameter.shape.rank() == 1 || parameter.shape.rank() == 2) << parameter.name;
  CHECK(parameter.split_dim < parameter.shape.rank()) << parameter.name;
  CHECK(parameter.split_dim < 0 || !parameter.used_on_split_tokens) << parameter.name;
  if (parameter.fused_with_previous) {
    CHECK(!parameters_.empty() && parameters_.back().home == parameter.home) << parameter.name;
  }
  parameters_.push_back(std::move(parameter));
}

const Parameter& ParameterTable::Find(const std::string& name) const {
  auto found = FindByName(parameters_, name);
  CHECK(found != parameters_.end()) << "no parameter " << name;
  return *found;
}

int64_t ParameterTable::elements() const {
  int64_t n = 0;
  for (const Parameter& parameter : parameters_) n += parameter.shape.elements();
  return n;
}

}  // namespace trefoil
