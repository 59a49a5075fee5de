#include "tests/parallel/example_table.h"

namespace trefoil {

ParameterTable ExampleTable() {
  ParameterTable table;
  const auto add = [&](const std::string& name, int module, const Shape& shape, int split_dim, bool fused = false) {
    std::vector<ParameterSplit> splits;
    if (split_dim >= 0) splits.push_back({.dim = split_dim, .axis = Axis::kTensor});
    table.Add({.name = name, .module = module, .shape = shape, .splits = splits, .initial = Initial::kNormal,
               .deviation = 1, .fused_with_previous = fused});
  };
  table.Add({.name = "token", .module = 0, .tied_modules = {3}, .shape = {11, 5}, .splits = {{0, Axis::kTensor}},
             .initial = Initial::kNormal, .deviation = 1});
  add("position", 0, {7, 5}, -1);
  for (int block = 1; block <= 2; ++block) {
    const std::string prefix = "blocks." + std::to_string(block) + ".";
    add(prefix + "q", block, {8, 5}, 0);
    add(prefix + "k", block, {8, 5}, 0, /*fused=*/true);
    add(prefix + "v", block, {8, 5}, 0, /*fused=*/true);
    add(prefix + "output", block, {5, 9}, 1);
    add(prefix + "bias", block, {9}, 0);
    table.Add({.name = prefix + "norm", .module = block, .shape = {5}, .initial = Initial::kOnes});
  }
  table.Add({.name = "norm", .module = 3, .shape = {5}, .initial = Initial::kOnes});
  return table;
}

void ForEachElement(const Shape& global, const Box& box, const std::function<void(size_t, size_t)>& visit) {
  for (int64_t local = 0; local < box.extent.elements(); ++local) {
    int64_t rest = local, stride = 1, index = 0;
    for (int i = global.rank() - 1; i >= 0; --i) {
      index += (box.offset[i] + rest % box.extent[i]) * stride;
      rest /= box.extent[i];
      stride *= global[i];
    }
    visit(static_cast<size_t>(index), static_cast<size_t>(local));
  }
}

}  // namespace trefoil
