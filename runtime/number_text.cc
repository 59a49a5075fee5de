#include "runtime/number_text.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

namespace trefoil {
namespace {

// `count` to three digits with the suffix for its power of 1000.
std::string Short(double count, const std::vector<const char*>& suffixes) {
  size_t i = 0;
  // 999.5 and more would be written as 1000.
  for (; count >= 999.5 && i + 1 < suffixes.size(); ++i) count /= 1000;
  const int decimals = i == 0 ? 0 : count >= 99.95 ? 0 : count >= 9.995 ? 1 : 2;
  return absl::StrFormat("%.*f%s", decimals, count, suffixes[i]);
}

}  // namespace

std::string BytesText(int64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(units); ++unit) value /= 1024;
  return absl::StrFormat("%.*f %s", unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2, value, units[unit]);
}

std::string FlopsText(double flops) { return Short(flops, {" ", " K", " M", " G", " T", " P", " E", " Z"}) + "FLOP"; }

std::string ShortCount(double count) { return Short(count, {"", "K", "M", "B", "T", "Q"}); }

std::string WithCommas(int64_t number) {
  std::string digits = absl::StrCat(number);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(at, ",");
  return digits;
}

std::string RangesText(const std::vector<int>& numbers) {
  std::vector<std::string> ranges;
  for (size_t begin = 0; begin < numbers.size();) {
    size_t end = begin + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    const int first = numbers[begin], last = numbers[end - 1];
    ranges.push_back(first == last ? absl::StrCat(first) : absl::StrCat(first, "-", last));
    begin = end;
  }
  return absl::StrJoin(ranges, ", ");
}

}  // namespace trefoil
