#include "checkpoint/reader.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <mutex>

#include "checkpoint/checked_files.h"
#include "checkpoint/manifest.h"
#include "checkpoint/slice_directory.h"

namespace trefoil {
namespace {

static_assert(std::endian::native == std::endian::little, "data files are little-endian");

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

absl::Status CheckTarget(const std::string& folder, const Manifest& manifest, const ShardedTensor& target) {
  const TensorEntry* const tensor = FindNamed(manifest.tensors, target.name);
  if (tensor == nullptr) {
    std::vector<std::string> names;
    for (const TensorEntry& candidate : manifest.tensors) names.push_back(candidate.name);
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
  const int64_t element = static_cast<int64_t>(SizeOf(job.tensor->dtype));
  for (size_t i = 0; i < job.slice->crcs.size(); ++i) {
    const Chunk chunk = {.tensor = job.tensor, .slice = job.slice, .number = i};
    const auto wants = [&](const Copier& copier) { return copier.Wants(chunk.end() / element); };
    if (std::none_of(job.copiers.begin(), job.copiers.end(), wants)) continue;
    const auto copy = [&](int64_t at, std::span<const std::byte> block) {
      const int64_t end = at + static_cast<int64_t>(block.size());
      for (Copier& copier : job.copiers) copier.Copy(block.data(), at / element, end / element);
    };
    TREFOIL_RETURN_IF_ERROR(ReadChunk(file, path, chunk, buffer, copy));
  }
  return absl::OkStatus();
}

}  // namespace

// The slices that a reader knows.
struct CheckpointReader::Known {
  std::once_flag parts_read;
  absl::Status status;
  // Sorted by name. Those of all tensors, or those that have something of located targets.
  std::vector<ManifestTensor> tensors;
  bool located = false;
};

CheckpointReader::CheckpointReader(FileSystem& fs, std::string folder, std::shared_ptr<const Manifest> manifest)
    : fs_(&fs), folder_(std::move(folder)), manifest_(std::move(manifest)), known_(std::make_shared<Known>()) {
  for (const TensorEntry& tensor : manifest_->tensors) tensors_.push_back({tensor.name, tensor.dtype, tensor.shape});
}

absl::StatusOr<CheckpointReader> CheckpointReader::Open(FileSystem& fs, const std::string& folder) {
  TREFOIL_ASSIGN_OR_RETURN(Manifest manifest, ReadManifest(fs, folder));
  return CheckpointReader(fs, folder, std::make_shared<const Manifest>(std::move(manifest)));
}

absl::StatusOr<CheckpointReader> CheckpointReader::OpenOnAll(FileSystem& fs, Group& group, const std::string& folder) {
  absl::StatusOr<CheckpointReader> of_first = absl::UnknownError("");
  absl::Status status;
  if (group.rank() == 0) {
    of_first = Open(fs, folder);
    status = of_first.status();
  }
  TREFOIL_RETURN_IF_ERROR(group.Agree(status));
  const std::string packed = group.BroadcastString(group.rank() == 0 ? PackManifest(*of_first->manifest_) : "");
  if (group.rank() == 0) return of_first;
  return CheckpointReader(fs, folder, std::make_shared<const Manifest>(UnpackManifest(packed)));
}

absl::Status CheckpointReader::ReadParts(int first, int every, std::vector<ManifestTensor>* tensors) const {
  if (!manifest_->has_parts) {
    if (first == 0) *tensors = manifest_->slices;
    return absl::OkStatus();
  }
  TensorsByName by_name;
  for (auto i = static_cast<size_t>(first); i < manifest_->parts.size(); i += static_cast<size_t>(every)) {
    TREFOIL_ASSIGN_OR_RETURN(const auto of_part, ReadSlicesOf(*fs_, folder_, *manifest_, manifest_->parts[i]));
    for (const ManifestTensor& tensor : of_part) {
      auto& slices = TensorNamed(by_name, tensor.name, tensor.dtype, tensor.shape).slices;
      slices.insert(slices.end(), tensor.slices.begin(), tensor.slices.end());
    }
  }
  *tensors = ValuesOf(std::move(by_name));
  return absl::OkStatus();
}

absl::Status CheckpointReader::InManifest(const absl::Status& status) const {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(folder_, "/", kManifestFile, ": ", status.message()));
}

absl::Status CheckpointReader::Locate(Group& group, std::span<const ShardedTensor> targets) {
  absl::Status status;
  for (const ShardedTensor& target : targets) status.Update(CheckTarget(folder_, *manifest_, target));
  std::vector<ManifestTensor> of_parts;
  status.Update(ReadParts(group.rank(), group.size(), &of_parts));
  TREFOIL_RETURN_IF_ERROR(group.Agree(status));
  const SliceDirectory directory(group, manifest_->tensors, of_parts);
  TREFOIL_RETURN_IF_ERROR(group.Agree(InManifest(directory.Tiling())));
  const auto known = std::make_shared<Known>();
  known->tensors = directory.Find(targets);
  known->located = true;
  known_ = known;
  return absl::OkStatus();
}

absl::Status CheckpointReader::CheckParts() const {
  if (known_->located) return absl::OkStatus();
  std::call_once(known_->parts_read, [&] {
    known_->status = ReadParts(0, 1, &known_->tensors);
    known_->status.Update(InManifest(CheckTiling(*manifest_, known_->tensors)));
  });
  return known_->status;
}

int CheckpointReader::data_files() const { return static_cast<int>(manifest_->parts.size()); }
int64_t CheckpointReader::step() const { return manifest_->step; }
const std::string& CheckpointReader::trainer_state() const { return manifest_->trainer_state; }
const std::string& CheckpointReader::model() const { return manifest_->model; }

const CheckpointReader::TensorInfo* CheckpointReader::Find(const std::string& name) const {
  return FindNamed(tensors_, name);
}

absl::Status CheckpointReader::Read(std::span<const ShardedTensor> targets) const {
  TREFOIL_RETURN_IF_ERROR(CheckParts());
  std::map<const ManifestSlice*, Job> jobs;
  for (const ShardedTensor& target : targets) {
    TREFOIL_RETURN_IF_ERROR(CheckTarget(folder_, *manifest_, target));
    if (target.bytes() == 0) continue;
    const ManifestTensor* tensor = FindNamed(known_->tensors, target.name);
    int64_t covered = 0;
    for (const ManifestSlice& slice : tensor == nullptr ? std::span<const ManifestSlice>() : tensor->slices) {
      Box both;
      if (!Intersect(slice.box, target.box, &both)) continue;
      covered += both.extent.elements();
      Job& job = jobs.try_emplace(&slice, Job{tensor, &slice, {}}).first->second;
      job.copiers.emplace_back(slice, target, both);
    }
    CHECK_EQ(covered, target.box.extent.elements())
        << "tensor \"" << target.name << "\" " << ToString(target.box) << " was not located";
  }

  std::vector<Job*> order;
  for (auto& [slice, job] : jobs) order.push_back(&job);
  std::sort(order.begin(), order.end(), [](const Job* a, const Job* b) {
    return std::pair(a->slice->rank, a->slice->byte_offset) < std::pair(b->slice->rank, b->slice->byte_offset);
  });
  std::vector<std::byte> buffer(static_cast<size_t>(kReadBlock));
  std::unique_ptr<ReadableFile> file;
  const std::map<int, int64_t> file_bytes = manifest_->FileBytes();
  std::string path;
  int open_rank = -1;
  for (Job* job : order) {
    if (job->slice->rank != open_rank) {
      open_rank = job->slice->rank;
      path = folder_ + "/" + DataFileName(open_rank);
      const PartEntry entry = {.rank = open_rank, .file_bytes = file_bytes.at(open_rank)};
      TREFOIL_ASSIGN_OR_RETURN(file, OpenDataFile(*fs_, folder_, entry));
    }
    TREFOIL_RETURN_IF_ERROR(ReadSlice(*file, path, *job, buffer));
  }
  return absl::OkStatus();
}

}  // namespace trefoil
