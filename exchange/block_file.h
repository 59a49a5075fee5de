// Elements of a tensor in a file, decoded through a buffer. Internal to exchange/.
#pragma once

#include <span>

#include "exchange/foreign_tensors.h"
#include "runtime/files/file.h"

namespace trefoil {

// As ForeignTensors::Read, of a tensor whose bytes lie in this file.
absl::Status ReadElements(const ReadableFile& file, const ForeignTensor& tensor, int64_t first, std::span<float> out);

}  // namespace trefoil
