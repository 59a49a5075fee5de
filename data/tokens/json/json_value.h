// Reading the parts of a JSON file that others have written: each value knows its place, for messages.
//
//   TREFOIL_ASSIGN_OR_RETURN(JsonFile file, JsonFile::Parse(content));
//   JsonValue split = file.root().Get("pre_tokenizer");
//   TREFOIL_RETURN_IF_ERROR(split.HasOnly({"type", "pattern", "behavior", "invert"}));
//   TREFOIL_ASSIGN_OR_RETURN(bool invert, split.Get("invert").Bool(false));
//   return split.Get("behavior").Refuse("must be one of Removed, Isolated");
//       // pre_tokenizer.behavior: "Removd": must be one of Removed, Isolated
//
// What the file lacks reads as null. Every error is InvalidArgument. Numbers with a fraction are those that the
// `tokenizers` package reads, whose parser (serde_json) is quick and in the last bit not always right: two ways to cut
// a text may tie by it.
//
// A hostile file costs memory of some 30 times its bytes at most, and no depth of stack: files above kLargestFile bytes
// or with more than kDeepest levels are refused.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

class JsonValue {
 public:
  // `value` outlives this; `path` is its place.
  JsonValue(const nlohmann::json* value, std::string path) : value_(value), path_(std::move(path)) {}

  bool IsNull() const;
  bool IsText() const;
  bool IsObject() const;
  bool IsArray() const;
  const nlohmann::json& raw() const { return *value_; }
  const std::string& path() const { return path_; }

  // A member of an object; null of anything else.
  JsonValue Get(std::string_view key) const;
  // The elements of an array.
  absl::StatusOr<std::vector<JsonValue>> Items() const;
  // That it is an object without other members than these.
  absl::Status HasOnly(std::initializer_list<std::string_view> keys) const;

  // Of null `fallback`, or an error if there is none.
  absl::StatusOr<bool> Bool(std::optional<bool> fallback = {}) const;
  absl::StatusOr<int64_t> Integer(std::optional<int64_t> fallback = {}) const;
  absl::StatusOr<double> Number() const;
  absl::StatusOr<std::string> Text(std::optional<std::string> fallback = {}) const;
  // A text of one character.
  absl::StatusOr<std::string> Character(std::optional<std::string> fallback = {}) const;

  // "model.unk_token: "<unk>": " and why.
  absl::Status Refuse(std::string_view why) const;

 private:
  absl::Status Wanted(std::string_view what) const;

  const nlohmann::json* value_;
  std::string path_;
};

class JsonFile {
 public:
  static constexpr size_t kLargestFile = size_t{256} << 20;
  static constexpr int kDeepest = 100;

  static absl::StatusOr<JsonFile> Parse(std::string_view content);
  JsonFile(JsonFile&&) noexcept;
  ~JsonFile();

  // Values live as long as the file.
  JsonValue root() const;

 private:
  explicit JsonFile(std::unique_ptr<nlohmann::json> root);

  std::unique_ptr<nlohmann::json> root_;
};

}  // namespace trefoil
