#include "checkpoint/reader.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <optional>

#include "checkpoint/manifest.h"
#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

static_assert(std::endian::native == std::endian::little, "data files are little-endian");

// A multiple of every element size, so that no element straddles two blocks; divides the chunks of a slice.
constexpr int64_t kBlock = 1 << 20;

std::optional<Box> Intersection(const Box& a, const Box& b) {
  Box both;
  for (int i = 0; i < a.offset.rank(); ++i) {
    const int64_t begin = std::max(a.offset[i], b.offset[i]);
    const int64_t end = std::min(a.offset[i] + a.extent[i], b.offset[i] + b.extent[i]);
    if (begin >= end) return std::nullopt;
    both.offset.push_back(begin);
    both.extent.push_back(end - begin);
  }
  return both;
}

// Elements from the start of `box` to the global index `offset`, row-major.
int64_t Position(const Box& box, const Shape& offset) {
  int64_t position = 0;
  for (int i = 0; i < offset.rank(); ++i) position = position * box.extent[i] + offset[i] - box.offset[i];
  return position;
}

// Copies from a slice, which comes in chunks from first to last, what lies within a target.
class Copier {
 public:
  Copier(const ManifestSlice& slice, const ShardedTensor& target, const Box& both)
      : slice_(slice.box), target_(target), both_(both), element_(static_cast<int64_t>(SizeOf(target.dtype))) {
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

  // Whether elements before `end` of the slice are still to be copied.
  bool Wants(int64_t end) const { return next_ < runs_ && Position(slice_, StartOf(next_)) < end; }
  // `chunk` holds the slice's elements [begin, end); those before that were wanted have been copied.
  void Copy(const std::byte* chunk, int64_t begin, int64_t end) {
    for (; next_ < runs_; ++next_) {
      const Shape start = StartOf(next_);
      const int64_t from = Position(slice_, start), to = Position(target_.box, start);
      if (from >= end) return;
      const int64_t first = std::max(from, begin), last = std::min(from + run_, end);
      std::memcpy(target_.data + (to + first - from) * element_, chunk + (first - begin) * element_,
                  static_cast<size_t>((last - first) * element_));
      if (from + run_ > end) return;  // the rest of it is in the next chunk
    }
  }

 private:
  // Global index of the first element of a run.
  Shape StartOf(int64_t run) const {
    Shape start = both_.offset;
    for (int i = split_ - 1; i >= 0; --i) {
      start[i] += run % both_.extent[i];
      run /= both_.extent[i];
    }
    return start;
  }

  const Box slice_;
  const ShardedTensor& target_;
  const Box both_;
  const int64_t element_;
  int split_;
  int64_t run_, runs_, next_ = 0;
};

// A slice to be read, and the targets that want something of it.
struct Job {
  const ManifestTensor* tensor;
  const ManifestSlice* slice;
  std::vector<Copier> copiers;
};

const ManifestTensor* FindTensor(const Manifest& manifest, const std::string& name) {
  const auto it = std::lower_bound(manifest.tensors.begin(), manifest.tensors.end(), name,
                                   [](const ManifestTensor& tensor, const std::string& n) { return tensor.name < n; });
  return it != manifest.tensors.end() && it->name == name ? &*it : nullptr;
}

absl::Status CheckTarget(const std::string& folder, const Manifest& manifest, const ShardedTensor& target) {
  const ManifestTensor* tensor = FindTensor(manifest, target.name);
  if (tensor == nullptr) {
    std::vector<std::string> names;
    for (const ManifestTensor& candidate : manifest.tensors) names.push_back(candidate.name);
    const std::string near = NearestName(target.name, names);
    return absl::NotFoundError(absl::StrCat(folder, ": has no tensor \"", target.name, "\"",
                                            near.empty() ? "" : "; nearest name: \"" + near + "\""));
  }
  if (tensor->dtype != target.dtype) {
    return absl::InvalidArgumentError(absl::StrCat(folder, ": tensor \"", target.name, "\" is ", Name(tensor->dtype),
                                                   " in the checkpoint, but ", Name(target.dtype), " here"));
  }
  if (tensor->shape != target.global) {
    return absl::InvalidArgumentError(absl::StrCat(folder, ": tensor \"", target.name, "\" has shape ",
                                                   tensor->shape.ToString(), " in the checkpoint, but ",
                                                   target.global.ToString(), " here"));
  }
  for (int i = 0; i < target.global.rank(); ++i) {
    CHECK(target.box.offset[i] >= 0 && target.box.offset[i] + target.box.extent[i] <= target.global[i])
        << "tensor \"" << target.name << "\" " << target.global << ": target " << ToString(target.box);
  }
  return absl::OkStatus();
}

absl::Status ReadSlice(const ReadableFile& file, const std::string& path, Job& job, std::span<std::byte> buffer) {
  const ManifestSlice& slice = *job.slice;
  const int64_t element = static_cast<int64_t>(SizeOf(job.tensor->dtype));
  const int64_t bytes = slice.box.extent.elements() * element;
  for (size_t i = 0; i < slice.crcs.size(); ++i) {
    const int64_t begin = static_cast<int64_t>(i) * slice.chunk_bytes, end = std::min(begin + slice.chunk_bytes, bytes);
    const auto wants = [&](const Copier& copier) { return copier.Wants(end / element); };
    if (std::none_of(job.copiers.begin(), job.copiers.end(), wants)) continue;
    uint32_t crc = 0;
    for (int64_t at = begin; at < end; at += kBlock) {
      const auto block = buffer.first(static_cast<size_t>(std::min(kBlock, end - at)));
      TREFOIL_RETURN_IF_ERROR(file.Read(slice.byte_offset + at, block));
      crc = Crc32c(block, crc);
      const int64_t block_end = at + static_cast<int64_t>(block.size());
      for (Copier& copier : job.copiers) copier.Copy(block.data(), at / element, block_end / element);
    }
    if (crc == slice.crcs[i]) continue;
    return absl::DataLossError(absl::StrFormat(
        "%s: damaged: tensor \"%s\", slice %s, bytes %d to %d: CRC32C is %08x, but must be %08x", path,
        job.tensor->name, ToString(slice.box), slice.byte_offset + begin, slice.byte_offset + end, crc, slice.crcs[i]));
  }
  return absl::OkStatus();
}

}  // namespace

CheckpointReader::CheckpointReader(FileSystem& fs, std::string folder, std::shared_ptr<const Manifest> manifest)
    : fs_(&fs), folder_(std::move(folder)), manifest_(std::move(manifest)) {
  for (const ManifestTensor& tensor : manifest_->tensors) tensors_.push_back({tensor.name, tensor.dtype, tensor.shape});
}

absl::StatusOr<CheckpointReader> CheckpointReader::Open(FileSystem& fs, const std::string& folder) {
  const std::string path = folder + "/" + kManifestFile;
  TREFOIL_ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, path));
  TREFOIL_ASSIGN_OR_RETURN(Manifest manifest, DecodeManifest(text, path));
  return CheckpointReader(fs, folder, std::make_shared<const Manifest>(std::move(manifest)));
}

absl::StatusOr<CheckpointReader> CheckpointReader::OpenOnAll(FileSystem& fs, Group& group, const std::string& folder) {
  absl::Status status;
  std::string packed;
  if (group.rank() == 0) {
    absl::StatusOr<CheckpointReader> reader = Open(fs, folder);
    status = reader.status();
    if (reader.ok()) packed = PackManifest(*reader->manifest_);
  }
  TREFOIL_RETURN_IF_ERROR(group.Agree(status));
  packed = group.BroadcastString(packed);
  return CheckpointReader(fs, folder, std::make_shared<const Manifest>(UnpackManifest(packed)));
}

int64_t CheckpointReader::step() const { return manifest_->step; }
const std::string& CheckpointReader::trainer_state() const { return manifest_->trainer_state; }
const std::string& CheckpointReader::model() const { return manifest_->model; }

const CheckpointReader::TensorInfo* CheckpointReader::Find(const std::string& name) const {
  const ManifestTensor* tensor = FindTensor(*manifest_, name);
  return tensor == nullptr ? nullptr : &tensors_[static_cast<size_t>(tensor - manifest_->tensors.data())];
}

absl::Status CheckpointReader::Read(std::span<const ShardedTensor> targets) const {
  std::map<const ManifestSlice*, Job> jobs;
  for (const ShardedTensor& target : targets) {
    TREFOIL_RETURN_IF_ERROR(CheckTarget(folder_, *manifest_, target));
    if (target.bytes() == 0) continue;
    const ManifestTensor* tensor = FindTensor(*manifest_, target.name);
    int64_t covered = 0;
    for (const ManifestSlice& slice : tensor->slices) {
      const std::optional<Box> both = Intersection(slice.box, target.box);
      if (!both) continue;
      covered += both->extent.elements();
      Job& job = jobs.try_emplace(&slice, Job{tensor, &slice, {}}).first->second;
      job.copiers.emplace_back(slice, target, *both);
    }
    if (covered != target.box.extent.elements()) {
      return absl::DataLossError(absl::StrCat(folder_, "/", kManifestFile, ": tensor \"", target.name, "\": of ",
                                              ToString(target.box), " the slices hold ", covered, " of ",
                                              target.box.extent.elements(), " elements"));
    }
  }

  std::vector<Job*> order;
  for (auto& [slice, job] : jobs) order.push_back(&job);
  std::sort(order.begin(), order.end(), [](const Job* a, const Job* b) {
    return std::pair(a->slice->rank, a->slice->byte_offset) < std::pair(b->slice->rank, b->slice->byte_offset);
  });
  std::vector<std::byte> buffer(static_cast<size_t>(kBlock));
  std::unique_ptr<ReadableFile> file;
  std::string path;
  int open_rank = -1;
  for (Job* job : order) {
    if (job->slice->rank != open_rank) {
      open_rank = job->slice->rank;
      path = folder_ + "/" + DataFileName(open_rank);
      TREFOIL_ASSIGN_OR_RETURN(file, fs_->Open(path));
      const int64_t bytes = manifest_->file_bytes.at(open_rank);
      if (file->size() != bytes) {
        return absl::DataLossError(absl::StrCat(path, ": ", file->size() < bytes ? "truncated: " : "too long: ",
                                                file->size(), " bytes, but must be ", bytes));
      }
    }
    TREFOIL_RETURN_IF_ERROR(ReadSlice(*file, path, *job, buffer));
  }
  return absl::OkStatus();
}

}  // namespace trefoil
