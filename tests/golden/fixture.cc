#include "tests/golden/fixture.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace trefoil {
namespace {

template <typename T>
void Append(const std::string& bytes, size_t begin, size_t end, std::vector<double>* values) {
  for (size_t at = begin; at < end; at += sizeof(T)) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    values->push_back(static_cast<double>(value));
  }
}

}  // namespace

Fixture::Fixture(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  CHECK(in) << "cannot open " << path;
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  CHECK_GE(bytes.size(), 8u) << path;
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), 8);
  CHECK_LE(8 + header_size, bytes.size()) << path;
  const auto header = nlohmann::json::parse(bytes.substr(8, header_size));
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      metadata_ = entry.get<std::map<std::string, std::string>>();
      continue;
    }
    Array& array = arrays_[name];
    for (const int64_t dim : entry["shape"]) array.shape.push_back(dim);
    const std::string dtype = entry["dtype"];
    const size_t begin = 8 + header_size + entry["data_offsets"][0].get<size_t>();
    const size_t end = 8 + header_size + entry["data_offsets"][1].get<size_t>();
    CHECK_LE(end, bytes.size()) << path << " is truncated";
    if (dtype == "F32") {
      Append<float>(bytes, begin, end, &array.values);
    } else if (dtype == "F64") {
      Append<double>(bytes, begin, end, &array.values);
    } else {
      CHECK_EQ(dtype, "I32") << path;
      Append<int32_t>(bytes, begin, end, &array.values);
    }
    CHECK_EQ(static_cast<int64_t>(array.values.size()), array.shape.elements()) << path << ": " << name;
  }
}

const Fixture::Array& Fixture::Get(const std::string& name) const {
  const auto found = arrays_.find(name);
  CHECK(found != arrays_.end()) << "the fixture has no " << name;
  return found->second;
}

std::vector<int32_t> Fixture::Ids(const std::string& name) const {
  const std::vector<double>& values = Get(name).values;
  return std::vector<int32_t>(values.begin(), values.end());
}

const std::string& Fixture::metadata(const std::string& key) const {
  const auto found = metadata_.find(key);
  CHECK(found != metadata_.end()) << "the fixture has no metadata " << key;
  return found->second;
}

std::vector<std::string> Fixture::NamesUnder(const std::string& prefix) const {
  std::vector<std::string> names;
  for (const auto& [name, array] : arrays_) {
    if (name.starts_with(prefix)) names.push_back(name.substr(prefix.size()));
  }
  return names;
}

std::vector<double> Sampled(const std::vector<double>& values) {
  const size_t stride = std::max<size_t>(1, values.size() / 16 | 1);
  std::vector<double> sample;
  for (size_t i = 0; i < values.size() && sample.size() < 16; i += stride) sample.push_back(values[i]);
  return sample;
}

}  // namespace trefoil
