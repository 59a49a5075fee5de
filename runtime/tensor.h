// A tensor: a dtype, a shape and contiguous row-major elements in a device's memory.
//
//   Tensor x = device.Allocate(DType::kFloat32, {rows, columns}, Purpose::kActivations, "x");
//   Tensor top = x.Rows(0, rows / 2);          // a view: shares the elements
//   float* p = top.data<float>();              // host-addressable on the CPU device only
//
// Copying a Tensor copies the handle; the elements live until the last handle and view of them is gone, then return to
// the arena they came from. On the null device a tensor has a size but no elements: `data` must not be called, and no
// code outside kernels and the Upload/Download of a device needs to.
//
// Threads: handles may be copied and destroyed on any thread; the elements are the caller's to synchronise.
#pragma once

#include <glog/logging.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "runtime/dtype.h"

namespace trefoil {

// Up to four dims, outermost first. A shape of no dims is a scalar (one element).
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    for (int64_t dim : dims) push_back(dim);
  }
  void push_back(int64_t dim) {
    CHECK_LT(rank_, 4);
    CHECK_GE(dim, 0);
    dims_[rank_++] = dim;
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i]; }
  int64_t& operator[](int i) { return dims_[i]; }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  bool operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i) {
      if (dims_[i] != other.dims_[i]) return false;
    }
    return true;
  }
  // "[4, 128]"
  std::string ToString() const;

 private:
  std::array<int64_t, 4> dims_ = {};
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

class Tensor {
 public:
  // No tensor: `defined()` is false.
  Tensor() = default;
  // `storage` keeps `data` alive. `data` is null on the null device.
  Tensor(std::shared_ptr<void> storage, void* data, DType dtype, Shape shape)
      : storage_(std::move(storage)), data_(static_cast<char*>(data)), dtype_(dtype), shape_(shape) {}

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t elements() const { return shape_.elements(); }
  int64_t bytes() const { return elements() * static_cast<int64_t>(SizeOf(dtype_)); }

  // The same elements under another shape of as many elements.
  Tensor View(Shape shape) const;
  // Rows [begin, end) of the outermost dim.
  Tensor Rows(int64_t begin, int64_t end) const;
  // Elements [begin, begin + shape.elements()) in row-major order, as `shape`.
  Tensor Range(int64_t begin, Shape shape) const;

  template <typename T>
  T* data() const {
    CHECK(kDTypeOf<T> == dtype_) << "tensor holds " << Name(dtype_);
    return reinterpret_cast<T*>(data_);
  }
  void* raw() const { return data_; }

 private:
  std::shared_ptr<void> storage_;
  char* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  Shape shape_;
};

}  // namespace trefoil
