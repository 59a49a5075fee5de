#include "checkpoint/slice_reading.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

// Elements from the start of `box` to the global index `offset`, row-major.
int64_t Position(const Box& box, const Shape& offset) {
  int64_t position = 0;
  for (int i = 0; i < offset.rank(); ++i) position = position * box.extent[i] + offset[i] - box.offset[i];
  return position;
}

}  // namespace

SliceCopier::SliceCopier(const ManifestSlice& slice, const ShardedTensor& target, const Box& both)
    : slice_(slice.box), target_(&target), both_(both), element_(static_cast<int64_t>(SizeOf(target.dtype))) {
  // A run is contiguous in both: a range of dim `split_`, with the dims inside it whole.
  split_ = both.extent.rank() - 1;
  run_ = 1;
  for (; split_ > 0; --split_) {
    if (both.extent[split_] != slice_.extent[split_]) break;
    if (both.extent[split_] != target.box.extent[split_]) break;
    run_ *= both.extent[split_];
  }
  if (split_ >= 0) run_ *= both.extent[split_];
  runs_ = both.extent.elements() / run_;
}

bool SliceCopier::Wants(int64_t end) const { return next_ < runs_ && Position(slice_, StartOf(next_)) < end; }

void SliceCopier::Copy(const std::byte* chunk, int64_t begin, int64_t end) {
  for (; next_ < runs_; ++next_) {
    const Shape start = StartOf(next_);
    const int64_t from = Position(slice_, start), to = Position(target_->box, start);
    if (from >= end) return;
    const int64_t first = std::max(from, begin), last = std::min(from + run_, end);
    if (chunk != nullptr) {
      std::memcpy(target_->data + (to + first - from) * element_, chunk + (first - begin) * element_,
                  static_cast<size_t>((last - first) * element_));
    }
    if (from + run_ > end) return;  // the rest of it is in the next chunk
  }
}

Shape SliceCopier::StartOf(int64_t run) const {
  Shape start = both_.offset;
  for (int i = split_ - 1; i >= 0; --i) {
    start[i] += run % both_.extent[i];
    run /= both_.extent[i];
  }
  return start;
}

std::vector<Chunk> SliceJob::WantedChunks() const {
  const auto element = static_cast<int64_t>(SizeOf(tensor->dtype));
  std::vector<Chunk> chunks;
  std::vector<SliceCopier> ahead = copiers;
  for (size_t i = 0; i < slice->crcs.size(); ++i) {
    const Chunk chunk = {.tensor = tensor, .slice = slice, .number = i};
    const int64_t begin = chunk.begin() / element, end = chunk.end() / element;
    if (std::none_of(ahead.begin(), ahead.end(), [&](const SliceCopier& copier) { return copier.Wants(end); })) continue;
    chunks.push_back(chunk);
    for (SliceCopier& copier : ahead) copier.Copy(nullptr, begin, end);
  }
  return chunks;
}

absl::Status SliceJob::TakeChunk(const Chunk& chunk, std::span<const std::byte> bytes, const std::string& path) {
  const auto element = static_cast<int64_t>(SizeOf(tensor->dtype));
  for (SliceCopier& copier : copiers) copier.Copy(bytes.data(), chunk.begin() / element, chunk.end() / element);
  return CheckChunk(chunk, Crc32c(bytes), path);
}

absl::Status SliceJob::Read(const ReadableFile& file, const std::string& path, std::span<std::byte> buffer) {
  const auto element = static_cast<int64_t>(SizeOf(tensor->dtype));
  const auto copy = [&](int64_t at, std::span<const std::byte> block) {
    const int64_t end = at + static_cast<int64_t>(block.size());
    for (SliceCopier& copier : copiers) copier.Copy(block.data(), at / element, end / element);
  };
  for (const Chunk& chunk : WantedChunks()) TREFOIL_RETURN_IF_ERROR(ReadChunk(file, path, chunk, buffer, copy));
  return absl::OkStatus();
}

std::vector<SliceJob> JobsFor(const std::vector<ManifestTensor>& tensors, std::span<const ShardedTensor> targets) {
  std::map<const ManifestSlice*, SliceJob> by_slice;
  for (const ShardedTensor& target : targets) {
    if (target.bytes() == 0) continue;
    const ManifestTensor* tensor = FindNamed(tensors, target.name);
    int64_t covered = 0;
    for (const ManifestSlice& slice : tensor == nullptr ? std::span<const ManifestSlice>() : tensor->slices) {
      Box both;
      if (!Intersect(slice.box, target.box, &both)) continue;
      covered += both.extent.elements();
      SliceJob& job = by_slice.try_emplace(&slice, SliceJob{tensor, &slice, {}}).first->second;
      job.copiers.emplace_back(slice, target, both);
    }
    CHECK_EQ(covered, target.box.extent.elements())
        << "tensor \"" << target.name << "\" " << ToString(target.box) << " was not located";
  }
  std::vector<SliceJob> jobs;
  for (auto& [slice, job] : by_slice) jobs.push_back(std::move(job));
  std::sort(jobs.begin(), jobs.end(), [](const SliceJob& a, const SliceJob& b) {
    return std::pair(a.slice->rank, a.slice->byte_offset) < std::pair(b.slice->rank, b.slice->byte_offset);
  });
  return jobs;
}

}  // namespace trefoil
