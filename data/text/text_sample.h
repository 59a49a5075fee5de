// About so many bytes of the texts that come, or all if there are fewer: those whose hash is small.
//
//   TextSample sample(/*bytes=*/16 << 20);
//   sample.Add(hash, text);                          // any number of times
//   std::vector<std::string> texts = sample.Take();
//
// A text is kept while its hash is at most a threshold, which is halved whenever those kept become too many: the
// outcome is the same as if the final threshold had been known from the start, so it depends on the texts and hashes
// only.
//
// Memory: up to twice the bytes. Threads: one at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trefoil {

class TextSample {
 public:
  explicit TextSample(int64_t bytes) : bytes_(bytes) {}

  void Add(uint64_t hash, std::string_view text) {
    if (hash > threshold_ || text.empty()) return;
    kept_.emplace_back(hash, text);
    kept_bytes_ += static_cast<int64_t>(text.size());
    while (kept_bytes_ > bytes_ && kept_.size() > 1) {
      threshold_ /= 2;
      std::erase_if(kept_, [&](const auto& entry) {
        if (entry.first <= threshold_) return false;
        kept_bytes_ -= static_cast<int64_t>(entry.second.size());
        return true;
      });
    }
  }

  std::vector<std::string> Take() {
    std::vector<std::string> texts;
    for (auto& [hash, text] : kept_) texts.push_back(std::move(text));
    kept_.clear();
    return texts;
  }

 private:
  const int64_t bytes_;
  std::vector<std::pair<uint64_t, std::string>> kept_;
  uint64_t threshold_ = ~uint64_t{0};
  int64_t kept_bytes_ = 0;
};

}  // namespace trefoil
