// Named tensors in the files of others, read as float32 wherever they lie.
//
//   TREFOIL_ASSIGN_OR_RETURN(const auto weights, OpenSafetensors(fs, "SmolLM2-135M"));
//   const ForeignTensor* norm = weights->Find("model.norm.weight");
//   std::vector<float> values(norm->elements());
//   TREFOIL_RETURN_IF_ERROR(weights->Read(*norm, 0, values));
//
// What a file says of itself is checked when it is opened; elements are read when they are asked for and no more of
// them is held than that.
//
// Threads: const calls from any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

struct ForeignTensor {
  std::string name;
  std::string dtype;           // as the file spells it: "BF16", "Q4_1"
  std::vector<int64_t> shape;  // outermost first
  // Where it lies: the number of its file, and its bytes there.
  int file = 0;
  int64_t begin = 0, bytes = 0;

  // Whoever has read the file has seen that this does not overflow.
  int64_t elements() const;
  // "[32, 64]"
  std::string ShapeText() const;
};

class ForeignTensors {
 public:
  virtual ~ForeignTensors() = default;
  // Sorted by name, each name once.
  const std::vector<ForeignTensor>& tensors() const { return tensors_; }
  // Null if there is none of that name.
  const ForeignTensor* Find(const std::string& name) const;
  // The elements [first, first + out.size()) in row-major order of one of tensors(); where it has blocks of elements
  // (exchange/number_formats.h), both ends are multiples of theirs. Failure: a file that cannot be read.
  virtual absl::Status Read(const ForeignTensor& tensor, int64_t first, std::span<float> out) const = 0;
  absl::StatusOr<std::vector<float>> ReadAll(const ForeignTensor& tensor) const;

 protected:
  std::vector<ForeignTensor> tensors_;
};

// Their product; -1 if a dim is negative, or the product beyond what a file can hold (2^60).
int64_t ElementsOf(std::span<const int64_t> shape);

}  // namespace trefoil
