#include "exchange/block_file.h"

#include <glog/logging.h>

#include <algorithm>
#include <vector>

#include "exchange/number_formats.h"

namespace trefoil {

absl::Status ReadElements(const ReadableFile& file, const ForeignTensor& tensor, int64_t first, std::span<float> out) {
  constexpr int64_t kBufferBytes = 1 << 20;
  const NumberFormat& format = *FindNumberFormat(tensor.dtype);
  const auto elements = static_cast<int64_t>(out.size());
  CHECK_LE(first + elements, tensor.elements()) << tensor.name;
  CHECK(first % format.block_elements == 0 && elements % format.block_elements == 0)
      << tensor.name << ": parts of blocks";
  const int64_t blocks = elements / format.block_elements;
  const int64_t at_once = std::clamp<int64_t>(kBufferBytes / format.block_bytes, 1, std::max<int64_t>(1, blocks));
  std::vector<std::byte> buffer(static_cast<size_t>(at_once * format.block_bytes));
  for (int64_t done = 0; done < blocks; done += at_once) {
    const int64_t count = std::min(at_once, blocks - done);
    const int64_t offset = tensor.begin + (first / format.block_elements + done) * format.block_bytes;
    const auto bytes = std::span(buffer).first(static_cast<size_t>(count * format.block_bytes));
    TREFOIL_RETURN_IF_ERROR(file.Read(offset, bytes));
    format.decode(bytes.data(), count * format.block_elements, out.data() + done * format.block_elements);
  }
  return absl::OkStatus();
}

}  // namespace trefoil
