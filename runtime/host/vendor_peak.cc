#include "runtime/host/vendor_peak.h"

#include <algorithm>
#include <sstream>
#include <vector>

namespace trefoil {
namespace {

// Figures of NVIDIA's data sheets, TFLOP/s, where these give sparse ones by half: A100 (June 2021), A40 (2021), H100
// (2023: SXM, PCIe, NVL), H200 (2024: SXM, NVL), GH200 (2023), HGX B200 (2024), L40S (2023), L4 (2023); of the
// whitepapers on GA102 and Ada: RTX 3090, RTX 4090. The first entry whose words are all in the name.
struct Entry {
  std::vector<std::string> words;
  double float32, bfloat16, float8;  // 0: none
};

const std::vector<Entry>& Table() {
  static const auto& table = *new std::vector<Entry>{
      {{"A100"}, 19.5, 312, 0},
      {{"A40"}, 37.4, 149.7, 0},
      {{"H100", "PCIe"}, 51, 756, 1513},
      {{"H100", "NVL"}, 60, 835.5, 1670.5},
      {{"H100"}, 67, 989.4, 1978.9},
      {{"H200", "NVL"}, 60, 835.5, 1670.5},
      {{"H200"}, 67, 989.4, 1978.9},
      {{"GH200"}, 67, 989.4, 1978.9},
      {{"B200"}, 75, 2250, 4500},
      {{"L40S"}, 91.6, 362.05, 733},
      {{"L4"}, 30.3, 121, 242.5},
      {{"RTX", "3090"}, 35.6, 71, 0},
      {{"RTX", "4090"}, 82.6, 165.2, 330.3},
  };
  return table;
}

}  // namespace

double VendorPeakFlops(const std::string& model, DType dtype) {
  std::string spaced = model;
  std::ranges::replace(spaced, '-', ' ');  // "A100-SXM4-80GB"
  std::istringstream stream(spaced);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  const auto has = [&](const std::string& word) { return std::ranges::find(words, word) != words.end(); };
  if (has("MIG") || has("Laptop") || has("D") || has("Ti")) return 0;
  for (const Entry& entry : Table()) {
    if (!std::ranges::all_of(entry.words, has)) continue;
    return 1e12 * (IsFloat8(dtype) ? entry.float8 : dtype == DType::kBFloat16 ? entry.bfloat16 : entry.float32);
  }
  return 0;
}

}  // namespace trefoil
