// Errors that the world can cause: absl::Status, and two macros that pass them up.
//
//   TREFOIL_RETURN_IF_ERROR(file.Append(bytes));
//   TREFOIL_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
//
// A message names the file or field, the value found, the rule, and the nearest legal value:
//   "model.heads: 12 does not divide over parallel.tensor 8; nearest tensor sizes: 6, 12".
// Our own bugs are CHECKs (glog), never a Status.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#define TREFOIL_RETURN_IF_ERROR(expression)                    \
  do {                                                         \
    if (absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

#define TREFOIL_CONCAT_INNER_(a, b) a##b
#define TREFOIL_CONCAT_(a, b) TREFOIL_CONCAT_INNER_(a, b)
#define TREFOIL_ASSIGN_OR_RETURN(declaration, expression)                                   \
  auto TREFOIL_CONCAT_(or_, __LINE__) = (expression);                                       \
  if (!TREFOIL_CONCAT_(or_, __LINE__).ok()) return TREFOIL_CONCAT_(or_, __LINE__).status(); \
  declaration = std::move(*TREFOIL_CONCAT_(or_, __LINE__))

namespace trefoil {

// The candidate with the smallest edit distance to `name`, for "did you mean"; empty if none is near (distance over half
// of the name's length).
std::string NearestName(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace trefoil
