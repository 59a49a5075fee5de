#include "checkpoint/reader.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "checkpoint/checked_files.h"
#include "checkpoint/fetch.h"
#include "checkpoint/manifest.h"
#include "checkpoint/on_hosts.h"
#include "checkpoint/slice_directory.h"
#include "checkpoint/slice_reading.h"

namespace trefoil {
namespace {

static_assert(std::endian::native == std::endian::little, "data files are little-endian");

// Said where files are missing that no other host is asked for.
constexpr char kElsewhere[] = " (where hosts have folders of their own each has a part: trefoil checkpoint copy gathers them)";

// What the manifest says of the files of rank `rank`, which it has.
const PartEntry& EntryOf(const Manifest& manifest, int rank) {
  const auto& parts = manifest.parts;
  const auto entry = std::lower_bound(parts.begin(), parts.end(), rank,
                                      [](const PartEntry& part, int number) { return part.rank < number; });
  CHECK(entry != parts.end() && entry->rank == rank) << "rank " << rank;
  return *entry;
}

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

}  // namespace

// Files of ranks that turned out to be damaged, and on which hosts.
class DamagedFiles {
 public:
  void Add(int rank, int host) { files_.emplace(rank, host); }
  bool empty() const { return files_.empty(); }
  std::string Pack() const {
    Packer packer;
    for (const auto& [rank, host] : files_) {
      packer.Number(rank);
      packer.Number(host);
    }
    return packer.bytes();
  }

 private:
  std::set<std::pair<int, int>> files_;
};

// Of a checkpoint in folders of hosts' own: who has whose files, and who of the job is on which host.
struct CheckpointReader::Held {
  std::vector<std::vector<int>> ranks_of_host;
  int here = 0;  // this rank's host
  std::map<int, std::vector<int>> holders;  // as in CheckpointOnHosts; less those that turned out to be damaged

  bool IsHere(int rank) const {
    const std::vector<int>& hosts = holders.at(rank);
    return std::find(hosts.begin(), hosts.end(), here) != hosts.end();
  }
  // The rank, and its host, that reads the files of rank `rank` for those on other hosts.
  int HostFor(int rank) const { return holders.at(rank).front(); }
  int ServerFor(int rank) const { return ServerOf(ranks_of_host[static_cast<size_t>(HostFor(rank))], rank); }
};

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
  return SendToAll(fs, group, folder, of_first);
}

absl::StatusOr<CheckpointReader> CheckpointReader::SendToAll(FileSystem& fs, Group& group, const std::string& folder,
                                                             const absl::StatusOr<CheckpointReader>& of_first) {
  const std::string packed = group.BroadcastString(group.rank() == 0 ? PackManifest(*of_first->manifest_) : "");
  if (group.rank() == 0) return of_first;
  return CheckpointReader(fs, folder, std::make_shared<const Manifest>(UnpackManifest(packed)));
}

absl::StatusOr<CheckpointReader> CheckpointReader::Open(FileSystem& fs, const CheckpointOnHosts& on_hosts) {
  TREFOIL_ASSIGN_OR_RETURN(Manifest manifest,
                           DecodeManifest(on_hosts.manifest, on_hosts.path + "/" + kManifestFile));
  return CheckpointReader(fs, on_hosts.path, std::make_shared<const Manifest>(std::move(manifest)));
}

absl::StatusOr<CheckpointReader> CheckpointReader::OpenOnAll(FileSystem& fs, Group& all,
                                                             const CheckpointOnHosts& on_hosts) {
  absl::StatusOr<CheckpointReader> of_first = absl::UnknownError("");
  if (all.rank() == 0) of_first = Open(fs, on_hosts);
  TREFOIL_RETURN_IF_ERROR(all.Agree(all.rank() == 0 ? of_first.status() : absl::OkStatus()));
  TREFOIL_ASSIGN_OR_RETURN(CheckpointReader reader, SendToAll(fs, all, on_hosts.path, of_first));
  const auto held = std::make_shared<Held>();
  const Hosts& hosts = *all.membership().hosts;
  for (const auto& [name, ranks] : hosts.RanksByHost()) {
    if (name == hosts.of(all.rank())) held->here = static_cast<int>(held->ranks_of_host.size());
    held->ranks_of_host.push_back(ranks);
  }
  held->holders = on_hosts.holders;
  reader.held_ = held;
  return reader;
}

absl::Status CheckpointReader::ReadParts(const std::function<bool(size_t part)>& mine, DamagedFiles* damaged,
                                         std::vector<ManifestTensor>* tensors) const {
  if (!manifest_->has_parts) {
    if (mine(0)) *tensors = manifest_->slices;
    return absl::OkStatus();
  }
  TensorsByName by_name;
  absl::Status status;
  for (size_t i = 0; i < manifest_->parts.size(); ++i) {
    if (!mine(i)) continue;
    const auto of_part = ReadSlicesOf(*fs_, folder_, *manifest_, manifest_->parts[i]);
    if (!of_part.ok()) {
      const bool elsewhere = held_ == nullptr && absl::IsNotFound(of_part.status());
      status.Update(elsewhere ? absl::NotFoundError(absl::StrCat(of_part.status().message(), kElsewhere)) : of_part.status());
      damaged->Add(manifest_->parts[i].rank, held_ == nullptr ? 0 : held_->here);
      continue;
    }
    for (const ManifestTensor& tensor : *of_part) {
      auto& slices = TensorNamed(by_name, tensor.name, tensor.dtype, tensor.shape).slices;
      slices.insert(slices.end(), tensor.slices.begin(), tensor.slices.end());
    }
  }
  *tensors = ValuesOf(std::move(by_name));
  return status;
}

absl::Status CheckpointReader::WithOtherCopies(Group& group,
                                               const std::function<absl::Status(DamagedFiles*)>& attempt) const {
  for (;;) {
    DamagedFiles damaged;
    const absl::Status own = attempt(&damaged);
    const absl::Status status = group.Agree(own);
    if (status.ok() || held_ == nullptr) return status;
    if (!damaged.empty()) LOG(WARNING) << own.message() << "; other hosts are asked for it";
    bool some = false;
    for (const std::string& packed : group.AllGatherStrings(damaged.Pack())) {
      for (Unpacker unpacker(packed); !unpacker.done();) {
        const auto rank = static_cast<int>(unpacker.Number()), host = static_cast<int>(unpacker.Number());
        std::erase(held_->holders.at(rank), host);
        if (held_->holders.at(rank).empty()) return status;
        some = true;
      }
    }
    if (!some) return status;
  }
}

absl::Status CheckpointReader::InManifest(const absl::Status& status) const {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(folder_, "/", kManifestFile, ": ", status.message()));
}

absl::Status CheckpointReader::Locate(Group& group, std::span<const ShardedTensor> targets) {
  std::vector<ManifestTensor> of_parts;
  const auto is_mine = [&](size_t part) {
    if (held_ != nullptr) return held_->ServerFor(manifest_->parts[part].rank) == group.rank();
    return static_cast<int>(part % static_cast<size_t>(group.size())) == group.rank();
  };
  TREFOIL_RETURN_IF_ERROR(WithOtherCopies(group, [&](DamagedFiles* damaged) {
    absl::Status status = CheckTargets(targets);
    status.Update(ReadParts(is_mine, damaged, &of_parts));
    return status;
  }));
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
    DamagedFiles damaged;
    known_->status = ReadParts([](size_t) { return true; }, &damaged, &known_->tensors);
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

absl::StatusOr<std::unique_ptr<ReadableFile>> CheckpointReader::OpenData(int rank) const {
  return OpenDataFile(*fs_, folder_, EntryOf(*manifest_, rank));
}

absl::Status CheckpointReader::CheckTargets(std::span<const ShardedTensor> targets) const {
  for (const ShardedTensor& target : targets) TREFOIL_RETURN_IF_ERROR(CheckTarget(folder_, *manifest_, target));
  return absl::OkStatus();
}

absl::Status CheckpointReader::Read(std::span<const ShardedTensor> targets) const {
  TREFOIL_RETURN_IF_ERROR(CheckParts());
  TREFOIL_RETURN_IF_ERROR(CheckTargets(targets));
  std::vector<std::byte> buffer(static_cast<size_t>(kReadBlock));
  std::unique_ptr<ReadableFile> file;
  int open_rank = -1;
  for (SliceJob& job : JobsFor(known_->tensors, targets)) {
    if (const int rank = job.slice->rank; rank != open_rank) {
      TREFOIL_ASSIGN_OR_RETURN(file, OpenData(rank));
      open_rank = rank;
    }
    TREFOIL_RETURN_IF_ERROR(job.Read(*file, folder_ + "/" + DataFileName(open_rank), buffer));
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::ReadOnHosts(Group& group, std::span<const ShardedTensor> targets) const {
  CHECK(held_ != nullptr && known_->located);
  return WithOtherCopies(group, [&](DamagedFiles* damaged) {
    absl::Status status = CheckTargets(targets);
    const auto failed = [&](int rank, int host, const absl::Status& why) {
      status.Update(why);
      damaged->Add(rank, host);
    };
    std::vector<std::byte> buffer(static_cast<size_t>(kReadBlock));
    std::vector<SliceJob> jobs;
    if (status.ok()) jobs = JobsFor(known_->tensors, targets);
    std::vector<Wanted> wanted;
    absl::StatusOr<std::unique_ptr<ReadableFile>> file;
    int open_rank = -1;
    for (SliceJob& job : jobs) {
      const int rank = job.slice->rank;
      const std::string path = folder_ + "/" + DataFileName(rank);
      if (held_->IsHere(rank)) {
        if (std::exchange(open_rank, rank) != rank) file = OpenData(rank);
        const absl::Status read = file.ok() ? job.Read(**file, path, buffer) : file.status();
        if (!read.ok()) failed(rank, held_->here, read);
        continue;
      }
      for (const Chunk& chunk : job.WantedChunks()) {
        const auto take = [&, chunk, rank, path](std::span<const std::byte> bytes) {
          const absl::Status taken = job.TakeChunk(chunk, bytes, path);
          if (!taken.ok()) failed(rank, held_->HostFor(rank), taken);
        };
        wanted.push_back({.server = held_->ServerFor(rank), .file = DataFileName(rank),
                          .offset = job.slice->byte_offset + chunk.begin(), .bytes = chunk.end() - chunk.begin(), .take = take});
      }
    }
    for (const Unread& unread : FetchFromOthers(*fs_, group, folder_, wanted)) status.Update(unread.status);
    return status;
  });
}

}  // namespace trefoil
