// Work in batches of similar length, the longest first, with a progress bar.
//
//   const auto run = [&](std::span<const size_t> numbers) { ... return absl::OkStatus(); };
//   TREFOIL_RETURN_IF_ERROR(InBatches("translating", "tokens", lengths, /*batch=*/32, run));
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

// `unit` is what lengths are told in. Calls `run` with the numbers of at most `batch` of the lengths, until each has
// been among them once; of equal lengths in their order.
absl::Status InBatches(const std::string& label, const char* unit, std::span<const int64_t> lengths, int64_t batch,
                       const std::function<absl::Status(std::span<const size_t> numbers)>& run);

}  // namespace trefoil
