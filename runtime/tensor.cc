#include "runtime/tensor.h"

#include <ostream>

namespace trefoil {

std::string Shape::ToString() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(dims_[i]);
  }
  return text + "]";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.ToString(); }

Tensor Tensor::View(Shape shape) const {
  CHECK_EQ(shape.elements(), elements()) << "view of " << shape_ << " as " << shape;
  return Tensor(storage_, data_, dtype_, shape);
}

Tensor Tensor::Rows(int64_t begin, int64_t end) const {
  CHECK_GE(shape_.rank(), 1);
  CHECK(0 <= begin && begin <= end && end <= shape_[0]) << "rows [" << begin << ", " << end << ") of " << shape_;
  Shape shape = shape_;
  shape[0] = end - begin;
  const int64_t row = shape_[0] == 0 ? 0 : elements() / shape_[0];
  return Range(begin * row, shape);
}

Tensor Tensor::Range(int64_t begin, Shape shape) const {
  CHECK(defined());
  CHECK(0 <= begin && begin + shape.elements() <= elements())
      << "elements [" << begin << ", " << begin + shape.elements() << ") of " << shape_;
  char* data = data_ == nullptr ? nullptr : data_ + begin * static_cast<int64_t>(SizeOf(dtype_));
  return Tensor(storage_, data, dtype_, shape);
}

}  // namespace trefoil
