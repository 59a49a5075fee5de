// Numbers as people read them, in reports, progress lines and messages.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trefoil {

// "12.4 GiB", "640 B".
std::string BytesText(int64_t bytes);

// "42.3 GFLOP".
std::string FlopsText(double flops);

// "1.31B", "350M", "3.15M", "512": a count to three digits.
std::string ShortCount(double count);

// "1,234,567".
std::string WithCommas(int64_t number);

// "0-3, 6" of ascending numbers.
std::string RangesText(const std::vector<int>& numbers);

}  // namespace trefoil
