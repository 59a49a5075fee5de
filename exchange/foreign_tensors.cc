#include "exchange/foreign_tensors.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>

namespace trefoil {

int64_t ElementsOf(std::span<const int64_t> shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  int64_t elements = 1;
  for (const int64_t dim : shape) {
    if (dim < 0 || dim > (int64_t{1} << 60) / elements) return -1;
    elements *= dim;
  }
  return elements;
}

int64_t ForeignTensor::elements() const { return ElementsOf(shape); }

std::string ForeignTensor::ShapeText() const { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

const ForeignTensor* ForeignTensors::Find(const std::string& name) const {
  const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const ForeignTensor& tensor, const std::string& n) { return tensor.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

absl::StatusOr<std::vector<float>> ForeignTensors::ReadAll(const ForeignTensor& tensor) const {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  TREFOIL_RETURN_IF_ERROR(Read(tensor, 0, values));
  return values;
}

}  // namespace trefoil
