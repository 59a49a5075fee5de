#include "parallel/collectives/joined_texts.h"

#include <glog/logging.h>

#include <cstdint>
#include <cstring>

namespace trefoil {

std::string JoinTexts(const std::vector<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) {
    const auto length = static_cast<int64_t>(text.size());
    joined.append(reinterpret_cast<const char*>(&length), sizeof(length)).append(text);
  }
  return joined;
}

std::vector<std::string> SplitTexts(const std::string& joined) {
  std::vector<std::string> texts;
  for (size_t at = 0; at < joined.size();) {
    int64_t length = 0;
    CHECK_LE(at + sizeof(length), joined.size());
    std::memcpy(&length, joined.data() + at, sizeof(length));
    at += sizeof(length);
    CHECK_LE(static_cast<size_t>(length), joined.size() - at);
    texts.push_back(joined.substr(at, static_cast<size_t>(length)));
    at += static_cast<size_t>(length);
  }
  return texts;
}

}  // namespace trefoil
