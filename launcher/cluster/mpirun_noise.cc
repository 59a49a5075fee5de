#include "launcher/cluster/mpirun_noise.h"

#include <algorithm>
#include <string>
#include <utility>

namespace trefoil {
namespace {

constexpr size_t kDashes = 74;
// A block of mpirun's has few lines; what goes on longer is no block.
constexpr size_t kLongestBlock = 4096;

bool MayBecomeDashes(std::string_view line) {
  return line.size() <= kDashes + 1 && line.find_first_not_of("-\r") == std::string_view::npos;
}

bool IsDashes(std::string_view line) {
  return line.substr(0, line.find_first_of("\r\n")) == std::string(kDashes, '-');
}

bool BeginsNoise(std::string_view line) {
  for (const char* words : {" terminated normally, but ", "MPI_ABORT was invoked on rank ",
                            " detected that one or more processes exited with non-zero status"}) {
    if (line.find(words) != std::string_view::npos) return true;
  }
  return false;
}

}  // namespace

void MpirunNoise::Line(std::string* shown) {
  const std::string line = std::exchange(line_, {});
  const bool dashes = IsDashes(line);
  if (dropping_) {
    block_ += line;
    if (dashes) block_.clear();
    if (block_.size() > kLongestBlock) *shown += std::exchange(block_, {});
    dropping_ = !block_.empty();
    return;
  }
  dropping_ = !block_.empty() && BeginsNoise(line);
  if (!dashes && !dropping_) {
    *shown += std::exchange(block_, {}) + line;
    return;
  }
  if (dashes) *shown += std::exchange(block_, {});
  block_ += line;
}

std::string MpirunNoise::Add(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const size_t size = std::min(text.find('\n'), text.size() - 1) + 1;
    const bool whole = text[size - 1] == '\n';
    line_ += text.substr(0, size);
    text.remove_prefix(size);
    if (passing_) {
      shown += std::exchange(line_, {});
      passing_ = !whole;
    } else if (whole) {
      Line(&shown);
    } else if (block_.empty() && !MayBecomeDashes(line_)) {
      // A prompt or a progress bar, which ends no line.
      shown += std::exchange(line_, {});
      passing_ = true;
    }
  }
  return shown;
}

std::string MpirunNoise::End() {
  passing_ = dropping_ = false;
  return std::exchange(block_, {}) + std::exchange(line_, {});
}

}  // namespace trefoil
