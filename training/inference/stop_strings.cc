#include "training/inference/stop_strings.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace trefoil {

std::string StopStrings::Add(std::string_view piece) {
  CHECK(!stopped_);
  waiting_ += piece;
  // The end of each string that is complete first, then where it begins.
  size_t first_end = std::string::npos, cut = std::string::npos;
  for (const std::string& string : strings_) {
    const size_t at = waiting_.find(string);
    if (at == std::string::npos) continue;
    const size_t end = at + string.size();
    if (end < first_end || (end == first_end && at < cut)) first_end = end, cut = at;
  }
  if (cut != std::string::npos) {
    stopped_ = true;
    waiting_.resize(cut);
    return std::exchange(waiting_, "");
  }
  size_t kept = 0;
  for (const std::string& string : strings_) {
    for (size_t size = std::min(string.size() - 1, waiting_.size()); size > kept; --size) {
      if (waiting_.ends_with(std::string_view(string).substr(0, size))) kept = size;
    }
  }
  std::string sure = waiting_.substr(0, waiting_.size() - kept);
  waiting_.erase(0, waiting_.size() - kept);
  return sure;
}

std::string StopStrings::End() { return std::exchange(waiting_, ""); }

}  // namespace trefoil
