// Fields of a line of JSON, of the type that they must have.
//
//   const Fields fields(line, "multiple_choice takes \"context\", \"choices\" and \"answer\"");
//   TREFOIL_ASSIGN_OR_RETURN(const std::string context, fields.Text("context"));
//
// Failure: `has no field "context"; ` or `field "context" is 3, must be a text; ` and what the line takes.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

class Fields {
 public:
  // The line, an object, outlives it.
  Fields(const nlohmann::json& line, std::string takes) : line_(line), takes_(std::move(takes)) {}

  bool Has(const char* name) const;
  absl::StatusOr<std::string> Text(const char* name) const;
  absl::StatusOr<std::string> TextOr(const char* name, const std::string& otherwise) const;
  // At least `least`, none of them empty.
  absl::StatusOr<std::vector<std::string>> Texts(const char* name, size_t least) const;
  // A number of one of `count` things from 0, as a number or as a text that spells one.
  absl::StatusOr<int64_t> Index(const char* name, size_t count, int64_t first = 0) const;
  absl::Status Bad(const char* name, const std::string& rule) const;

 private:
  absl::StatusOr<const nlohmann::json*> Find(const char* name) const;

  const nlohmann::json& line_;
  const std::string takes_;
};

}  // namespace trefoil
