// The fields of a config.json, read one by one, so that what nobody has read is known in the end.
//
//   TREFOIL_ASSIGN_OR_RETURN(ConfigFields fields, ConfigFields::Parse(text, "DIR/config.json"));
//   model->set_hidden(fields.Int("n_embd", 768));
//   fields.MustBe("scale_attn_weights", true);          // what is not implemented otherwise
//   TREFOIL_RETURN_IF_ERROR(fields.Finish());           // all that was wrong, and what was not understood
//
// A field that is absent or null has its default. Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

class ConfigFields {
 public:
  // `what` names the file in messages.
  static absl::StatusOr<ConfigFields> Parse(const std::string& text, const std::string& what);
  // `object` is one.
  static ConfigFields Of(const nlohmann::json& object, const std::string& what);
  ConfigFields(ConfigFields&&) noexcept;
  ConfigFields& operator=(ConfigFields&&) noexcept;
  ~ConfigFields();

  // Present and not null.
  bool Has(const std::string& name);
  // Present and null, where that is something else than absent.
  bool IsNull(const std::string& name);
  // A size: an integer from 0 to 2^31 - 1. Without a default it must be there.
  int32_t Int(const std::string& name, std::optional<int32_t> otherwise = std::nullopt);
  double Number(const std::string& name, double otherwise);
  bool Bool(const std::string& name, bool otherwise);
  std::string Word(const std::string& name, const std::string& otherwise);
  std::vector<std::string> Words(const std::string& name);
  // An object, as fields of their own, whose mistakes and unread fields become these'. None: absent or null.
  ConfigFields* Object(const std::string& name);
  // A number or a list of them, each from 0 to 2^31 - 1; none: absent or null.
  std::vector<int32_t> IntOrInts(const std::string& name);
  // The values of an object {"0": "NEGATIVE", "1": "POSITIVE"} by their number; empty if the keys are not 0, 1, ...
  std::vector<std::string> NamesByNumber(const std::string& name);

  // Other values change what the network computes, and are not implemented.
  void MustBe(const std::string& name, bool value);
  void MustBe(const std::string& name, const char* value);
  void MustBeEmpty(const std::string& name);
  // It says nothing of what the network computes.
  void Ignore(const std::string& name);
  // Something is wrong with a field, or with what several say together: "n_head: 12 ...".
  void Wrong(const std::string& problem) { problems_.push_back(problem); }
  // What is not read is not asked about.
  void IgnoreRest();

  // All that was wrong, and the fields that nobody has read, in one error, a line each.
  absl::Status Finish();

 private:
  struct Json;
  ConfigFields();

  std::string what_, prefix_;
  std::unique_ptr<Json> json_;
  std::set<std::string> read_;
  std::vector<std::string> problems_;
  std::vector<std::unique_ptr<ConfigFields>> objects_;
};

}  // namespace trefoil
