// The rules that a config must satisfy, as they are checked one after the other: each room has a function that checks
// its own message (runtime/config/runtime_rules.h, parallel/parallel_rules.h ...), training/config/validate.h asks them
// all.
//
//   Rules rules;
//   rules.AtLeastOne("model.layers", model.layers());
//   if (rules.Good("model.heads", "model.kv_heads") && ...)
//     rules.Broken("model.kv_heads: ", ..., "; nearest legal: ", ...);
//   rules.lines();
//
// Each line names the field, the value found, the rule, and the nearest legal value. A field that is wrong by itself is
// reported once and takes part in no further rule.
//
// Threads: one checks; a value otherwise.
#pragma once

#include <absl/strings/str_cat.h>
#include <google/protobuf/message.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace trefoil {

class Rules {
 public:
  // A field wrong by itself.
  void Bad(const std::string& path, const std::string& problem) {
    if (bad_.insert(path).second) lines_.push_back(absl::StrCat(path, ": ", problem));
  }
  // A field that is unknown because another is wrong.
  void Skip(const std::string& path) { bad_.insert(path); }
  // A rule among several fields.
  template <typename... T>
  void Broken(const T&... parts) {
    lines_.push_back(absl::StrCat(parts...));
  }
  // Whether these fields may take part in a rule.
  template <typename... T>
  bool Good(const T&... paths) const {
    return (!bad_.contains(paths) && ...);
  }

  void AtLeastOne(const std::string& path, int64_t value);
  // A value in [0, 1), or [0, 1] if `one`.
  void Share(const std::string& path, double value, bool one);
  void Positive(const std::string& path, double value, const char* usual);
  // Rules that hold for every field of every message: numbers are finite and not negative, enums are known.
  void Fields(const google::protobuf::Message& message, const std::string& prefix);

  const std::vector<std::string>& lines() const { return lines_; }

 private:
  template <typename T>
  void NotNegative(const std::string& path, T value);

  std::vector<std::string> lines_;
  std::set<std::string, std::less<>> bad_;
};

// The choices of an enum, without the one that stands for none: "FP32, BF16, FP8".
std::string EnumNames(const google::protobuf::EnumDescriptor& type);

}  // namespace trefoil
