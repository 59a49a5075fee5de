// Numbers as other programs store them, to float32 and back: bits in, bits out, nothing of files.
//
//   const NumberFormat* format = FindNumberFormat("Q4_1");
//   format->decode(bytes, count, out);        // count elements, whole blocks
//
// Plain formats have one element a block. The block formats are those of ggml's files (GGUF), which store elements in
// blocks with scales of their own.
//
// Threads: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace trefoil {

struct NumberFormat {
  std::string_view name;  // safetensors' word for it, or ggml's
  int64_t block_elements = 1;
  int64_t block_bytes = 0;
  // `elements` is a multiple of block_elements. Integers come out rounded.
  void (*decode)(const std::byte* bytes, int64_t elements, float* out) = nullptr;
  bool real = true;  // else integers or truth values, which no weights are
};

// Null if it is not known.
const NumberFormat* FindNumberFormat(std::string_view name);

// IEEE 754 half precision: 1 sign, 5 exponent, 10 mantissa bits, subnormals, infinity and NaN. Rounded to nearest, ties
// to even; what is too large becomes infinity.
float HalfToFloat(uint16_t bits);
uint16_t FloatToHalf(float value);

}  // namespace trefoil
