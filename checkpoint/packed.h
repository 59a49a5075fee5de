// Numbers and texts as bytes for messages between ranks, which check nothing: small numbers take one byte.
//
//   Packer packer;
//   packer.Number(300);
//   packer.Text("w");
//   Unpacker unpacker(packer.bytes());     // the bytes must outlive it
//   unpacker.Number();  unpacker.Text();
//
// Internal to checkpoint/.
#pragma once

#include <glog/logging.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/slices.h"

namespace trefoil {

class Packer {
 public:
  // Not negative. Seven bits a byte, the lowest first; the eighth says that more follow.
  void Number(int64_t value) {
    CHECK_GE(value, 0);
    auto left = static_cast<uint64_t>(value);
    for (; left >= 128; left >>= 7) bytes_.push_back(static_cast<char>(left | 128));
    bytes_.push_back(static_cast<char>(left));
  }
  void Text(std::string_view text) {
    Number(static_cast<int64_t>(text.size()));
    bytes_ += text;
  }
  void Dims(const Shape& shape) {
    for (int i = 0; i < shape.rank(); ++i) Number(shape[i]);
  }
  void OfBox(const Box& box) {
    Dims(box.offset);
    Dims(box.extent);
  }
  void Tensor(std::string_view name, DType dtype, const Shape& shape) {
    Text(name);
    Number(static_cast<int64_t>(dtype));
    Number(shape.rank());
    Dims(shape);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : left_(bytes) {}
  bool done() const { return left_.empty(); }
  int64_t Number() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(Bytes(1).front());
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return static_cast<int64_t>(value);
    }
  }
  std::string Text() {
    const int64_t size = Number();
    return std::string(Bytes(static_cast<size_t>(size)));
  }
  Shape Dims(int rank) {
    Shape shape;
    for (int i = 0; i < rank; ++i) shape.push_back(Number());
    return shape;
  }
  Box OfBox(int rank) {
    Shape offset = Dims(rank);
    return {.offset = offset, .extent = Dims(rank)};
  }
  void Tensor(std::string* name, DType* dtype, Shape* shape) {
    *name = Text();
    *dtype = static_cast<DType>(Number());
    *shape = Dims(static_cast<int>(Number()));
  }

 private:
  std::string_view Bytes(size_t size) {
    CHECK_LE(size, left_.size());
    const std::string_view bytes = left_.substr(0, size);
    left_.remove_prefix(size);
    return bytes;
  }
  std::string_view left_;
};

}  // namespace trefoil
