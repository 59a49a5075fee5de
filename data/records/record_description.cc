#include "data/records/record_description.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

namespace trefoil {
namespace {

// In the order of RecordPart.
constexpr const char* kNames[] = {"source",       "target", "text",         "text_pair", "label",
                                  "token_labels", "value",  "conversation", "answers"};

}  // namespace

const char* Name(RecordPart part) { return kNames[static_cast<size_t>(part)]; }

std::string Names(std::span<const RecordPart> parts) {
  return absl::StrJoin(parts, ", ", [](std::string* out, RecordPart part) { *out += Name(part); });
}

bool IsText(RecordPart part) {
  return part == RecordPart::kSource || part == RecordPart::kTarget || part == RecordPart::kText ||
         part == RecordPart::kTextPair || part == RecordPart::kConversation;
}

int RecordDescription::Find(RecordPart part) const {
  const auto found = std::find(parts.begin(), parts.end(), part);
  return found == parts.end() ? -1 : static_cast<int>(found - parts.begin());
}

int64_t RecordDescription::StoredVocabulary() const {
  int64_t ids = std::max<int64_t>(vocabulary, static_cast<int64_t>(labels.size()) + 1);
  if (Find(RecordPart::kAnswers) >= 0) ids = std::max<int64_t>(ids, 2);
  if (Find(RecordPart::kValue) >= 0) ids = std::max<int64_t>(ids, 256);
  return ids;
}

std::string ToJson(const RecordDescription& description) {
  nlohmann::ordered_json json;
  for (const RecordPart part : description.parts) json["parts"].push_back(Name(part));
  if (!description.labels.empty()) json["labels"] = description.labels;
  json["vocabulary"] = description.vocabulary;
  json["tokenizer"] = absl::StrFormat("%08x", description.tokenizer);
  return json.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::StatusOr<RecordDescription> ParseRecordDescription(const std::string& json, const std::string& path) {
  const auto error = [&](const auto&... what) { return absl::InvalidArgumentError(absl::StrCat(path, ": ", what...)); };
  const nlohmann::json object = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return error("not a JSON object; `trefoil tokenize --records` writes descriptions");
  const auto field = [&](const char* name) { return object.contains(name) ? object[name] : nlohmann::json(); };
  const auto texts = [&](const char* name, std::vector<std::string>* out) -> absl::Status {
    const nlohmann::json array = field(name);
    if (!array.is_array()) return error("field \"", name, "\" is ", array.dump(), "; it is a list of names");
    for (const nlohmann::json& item : array) {
      if (!item.is_string()) return error("field \"", name, "\" has ", item.dump(), "; it is a list of names");
      out->push_back(item.get<std::string>());
    }
    return absl::OkStatus();
  };
  RecordDescription description;
  std::vector<std::string> parts;
  TREFOIL_RETURN_IF_ERROR(texts("parts", &parts));
  if (parts.empty()) return error("field \"parts\" is empty; a record has at least one part");
  for (const std::string& part : parts) {
    const auto name = std::find(std::begin(kNames), std::end(kNames), part);
    if (name == std::end(kNames)) {
      const std::string nearest = NearestName(part, {std::begin(kNames), std::end(kNames)});
      return error("part \"", part, "\" is none of ", absl::StrJoin(kNames, ", "),
                   nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"));
    }
    description.parts.push_back(static_cast<RecordPart>(name - std::begin(kNames)));
    if (std::count(parts.begin(), parts.end(), part) > 1) return error("part \"", part, "\" is there twice");
  }
  if (description.Find(RecordPart::kLabel) >= 0 || description.Find(RecordPart::kTokenLabels) >= 0) {
    TREFOIL_RETURN_IF_ERROR(texts("labels", &description.labels));
    const std::set<std::string> distinct(description.labels.begin(), description.labels.end());
    if (distinct.empty()) return error("field \"labels\" is empty; records with labels have at least one name");
    if (distinct.size() < description.labels.size()) return error("field \"labels\" has a name twice");
  }
  const nlohmann::json vocabulary = field("vocabulary"), tokenizer = field("tokenizer");
  if (!vocabulary.is_number_integer() || vocabulary.get<int64_t>() < 1 || vocabulary.get<int64_t>() > INT32_MAX) {
    return error("field \"vocabulary\" is ", vocabulary.dump(), "; it is the tokenizer's, a positive whole number");
  }
  description.vocabulary = vocabulary.get<int64_t>();
  if (!tokenizer.is_string() || !absl::SimpleHexAtoi(tokenizer.get<std::string>(), &description.tokenizer)) {
    return error("field \"tokenizer\" is ", tokenizer.dump(), "; it is a checksum of eight hex digits");
  }
  return description;
}

std::string Difference(const RecordDescription& found, const RecordDescription& expected) {
  if (found.parts != expected.parts) {
    return absl::StrCat("parts ", Names(found.parts), ", not ", Names(expected.parts));
  }
  if (found.labels != expected.labels) {
    return absl::StrCat("labels ", absl::StrJoin(found.labels, ", "), ", not ", absl::StrJoin(expected.labels, ", "));
  }
  if (found.vocabulary != expected.vocabulary) {
    return absl::StrCat("vocabulary ", found.vocabulary, ", not ", expected.vocabulary);
  }
  if (found.tokenizer != expected.tokenizer) {
    return absl::StrFormat("tokenizer %08x, not %08x", found.tokenizer, expected.tokenizer);
  }
  return "";
}

std::vector<int32_t> ValueIds(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  std::vector<int32_t> ids;
  for (int byte = 0; byte < 4; ++byte) ids.push_back(static_cast<int32_t>(bits >> (8 * byte) & 255));
  return ids;
}

float ValueOf(std::span<const int32_t> ids) {
  CHECK_EQ(ids.size(), 4u);
  uint32_t bits = 0;
  for (int byte = 0; byte < 4; ++byte) bits |= static_cast<uint32_t>(ids[byte] & 255) << (8 * byte);
  return std::bit_cast<float>(bits);
}

}  // namespace trefoil
