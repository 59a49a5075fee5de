// A tensor in host memory: what a batch is made of.
//
//   HostTensor targets(std::vector<int32_t>{1, 2, 3, 4, 5, 6}, {2, 3});
//   targets.values<int32_t>()[t];
//   device.Upload(targets.data(), x);
//
// int32 or float32, row-major. A plain value: copy or move it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/tensor.h"

namespace trefoil {

class HostTensor {
 public:
  HostTensor() = default;  // none: `defined()` is false
  HostTensor(std::vector<int32_t> values, Shape shape) : HostTensor(Values(std::move(values)), shape) {}
  HostTensor(std::vector<float> values, Shape shape) : HostTensor(Values(std::move(values)), shape) {}
  static HostTensor Zeros(DType dtype, Shape shape) {
    CHECK(dtype == DType::kInt32 || dtype == DType::kFloat32) << Name(dtype);
    const auto n = static_cast<size_t>(shape.elements());
    return dtype == DType::kInt32 ? HostTensor(std::vector<int32_t>(n), shape)
                                  : HostTensor(std::vector<float>(n), shape);
  }

  bool defined() const { return !std::holds_alternative<std::monostate>(values_); }
  const Shape& shape() const { return shape_; }
  DType dtype() const {
    CHECK(defined());
    return std::holds_alternative<std::vector<int32_t>>(values_) ? DType::kInt32 : DType::kFloat32;
  }
  // T: int32_t or float, as dtype() says.
  template <typename T>
  const std::vector<T>& values() const {
    return std::get<std::vector<T>>(values_);
  }
  // As many as there are.
  template <typename T>
  std::vector<T>& values() {
    return std::get<std::vector<T>>(values_);
  }
  const void* data() const {
    return dtype() == DType::kInt32 ? static_cast<const void*>(values<int32_t>().data()) : values<float>().data();
  }

  // In the corner of zeros of `shape`, whose dims are as long or longer.
  HostTensor PaddedTo(const Shape& shape) const {
    HostTensor padded = Zeros(dtype(), shape);
    if (dtype() == DType::kInt32) {
      CopyToCorner(values<int32_t>(), shape_, &padded.values<int32_t>(), shape);
    } else {
      CopyToCorner(values<float>(), shape_, &padded.values<float>(), shape);
    }
    return padded;
  }

 private:
  using Values = std::variant<std::monostate, std::vector<int32_t>, std::vector<float>>;
  HostTensor(Values values, Shape shape) : values_(std::move(values)), shape_(shape) {
    const size_t n = dtype() == DType::kInt32 ? this->values<int32_t>().size() : this->values<float>().size();
    CHECK_EQ(n, static_cast<size_t>(shape_.elements())) << shape_;
  }

  template <typename T>
  static void CopyToCorner(const std::vector<T>& from, const Shape& small, std::vector<T>* to, const Shape& large) {
    CHECK_EQ(small.rank(), large.rank());
    for (int dim = 0; dim < small.rank(); ++dim) CHECK_LE(small[dim], large[dim]);
    const int last = small.rank() - 1;
    const int64_t columns = small[last];
    for (int64_t row = 0; row * columns < small.elements(); ++row) {
      int64_t rest = row, place = 0, stride = large[last];
      for (int dim = last - 1; dim >= 0; --dim) {
        place += rest % small[dim] * stride;
        rest /= small[dim];
        stride *= large[dim];
      }
      std::copy_n(from.begin() + row * columns, columns, to->begin() + place);
    }
  }

  Values values_;
  Shape shape_;
};

}  // namespace trefoil
