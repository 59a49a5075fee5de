// Reads a fixture of golden numbers: a safetensors file made by one of the scripts here, which list what they hold.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/tensor.h"

namespace trefoil {

class Fixture {
 public:
  struct Array {
    Shape shape;
    std::vector<double> values;
  };

  // CHECKs that the file is there and whole.
  explicit Fixture(const std::string& path);

  bool Has(const std::string& name) const { return arrays_.contains(name); }
  // CHECKs that it is there.
  const Array& Get(const std::string& name) const;
  std::vector<int32_t> Ids(const std::string& name) const;
  const std::string& metadata(const std::string& key) const;
  // Names with this prefix, without it.
  std::vector<std::string> NamesUnder(const std::string& prefix) const;

 private:
  std::map<std::string, Array> arrays_;
  std::map<std::string, std::string> metadata_;
};

// As golden_tools.py's: at most 16 elements, evenly spread.
std::vector<double> Sampled(const std::vector<double>& values);

}  // namespace trefoil
