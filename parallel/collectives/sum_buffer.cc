#include "parallel/collectives/sum_buffer.h"

#include <algorithm>
#include <utility>

namespace trefoil {

SumSegments SegmentsOfMessages(int ranks) {
  constexpr int64_t kPart = int64_t{1} << 20, kAll = int64_t{16} << 20, kSmall = 4096;
  // A multiple of any dtype's size.
  return {.part_bytes = std::clamp(kAll / ranks / 64 * 64, kSmall, kPart), .small_bytes = kSmall,
          .gives_back = true, .direct_ranks = 8, .direct_bytes = kPart / 2};
}

SumSegments SegmentsOfNccl(int ranks) {
  constexpr int64_t kAll = int64_t{64} << 20;
  return {.part_bytes = std::max<int64_t>(kAll / ranks / 64 * 64, 64), .small_bytes = 0, .gives_back = false};
}

SumBuffer::~SumBuffer() {
  if (bytes_ > 0 && gives_back_) device_.Synchronize();
}

Tensor SumBuffer::Parts(DType dtype, int ranks, int64_t count, int64_t largest) {
  CHECK_LE(count, largest);
  const int64_t bytes = ranks * largest * static_cast<int64_t>(SizeOf(dtype));
  if (bytes > bytes_) {
    if (pinned_) {
      replaced_.push_back(std::move(buffer_));
    } else if (bytes_ > 0 && gives_back_) {
      device_.Synchronize();
    }
    pinned_ = false;
    buffer_ = {};
    buffer_ = gives_back_ ? device_.arena().AllocateDedicated(bytes, Purpose::kCommunication)
                          : device_.arena().Allocate(bytes, Purpose::kCommunication);
    bytes_ = bytes;
  }
  return Tensor(buffer_.owner, buffer_.data, dtype, {ranks, count});
}

}  // namespace trefoil
