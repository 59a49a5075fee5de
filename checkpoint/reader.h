// Loads a checkpoint, on any layout: each rank says which boxes of the global tensors it wants and gets them from
// whatever slices the ranks that saved have written.
//
//   TREFOIL_ASSIGN_OR_RETURN(std::string path, LatestCheckpoint(fs, run + "/checkpoints"));
//   TREFOIL_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::OpenOnAll(fs, group, path));
//   ... compare reader.model() with the model at hand ...
//   TREFOIL_RETURN_IF_ERROR(reader.Locate(group, targets));       // which slices have something of mine
//   TREFOIL_RETURN_IF_ERROR(group.Agree(reader.Read(targets)));   // fills the elements
//
// Rank 0 reads the manifest and sends the others what is in it. Its parts, which say where the slices are, are read by all
// ranks together, each its share, and a rank is told of the slices that it needs (checkpoint/slice_directory.h): so what
// it reads, sends and holds is about its share, whatever the number of ranks that saved or load. The elements every rank
// reads by itself, without messages, and the caller lets the ranks agree on the outcome, as above. A rank alone does
// without Locate:
//
//   TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, path));
//   TREFOIL_RETURN_IF_ERROR(reader.Read(targets));                // reads all parts, the first time
//
// Failure: a missing, truncated or too long file, an unknown version, a byte that is not what was written: an error
// that names the file and, within data files, the tensor and the slice. Files are checked when they are read: the
// manifest when it is opened, its parts when slices are located (damaged means DataLoss; so do slices that overlap or leave
// a hole), the CRC32C of each chunk of a slice by the Read that needs it.
// Threads: Read may be called by several threads at once with different targets.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/collectives/group.h"
#include "parallel/sharded_tensor.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct CheckpointOnHosts;
struct Manifest;
struct ManifestTensor;
class DamagedFiles;

class CheckpointReader {
 public:
  // `folder`: of one checkpoint, ".../step-00000100". `fs` must outlive the reader. Only the manifest is read.
  static absl::StatusOr<CheckpointReader> Open(FileSystem& fs, const std::string& folder);
  // The same on every rank of `group`, with the same Status; only rank 0 looks at the folder.
  static absl::StatusOr<CheckpointReader> OpenOnAll(FileSystem& fs, Group& group, const std::string& folder);
  // Of a checkpoint in folders of hosts' own (checkpoint/on_hosts.h): on rank 0, to look at what the manifest says; and
  // on every rank of the job, to load it by Locate and ReadOnHosts.
  static absl::StatusOr<CheckpointReader> Open(FileSystem& fs, const CheckpointOnHosts& on_hosts);
  static absl::StatusOr<CheckpointReader> OpenOnAll(FileSystem& fs, Group& all, const CheckpointOnHosts& on_hosts);

  int64_t step() const;
  const std::string& trainer_state() const;
  const std::string& model() const;

  struct TensorInfo {
    std::string name;
    DType dtype;
    Shape shape;  // global
  };
  // Sorted by name.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // Null if there is none of that name.
  const TensorInfo* Find(const std::string& name) const;

  // Ranks that had something to write.
  int data_files() const;

  // For this rank to read `targets` (whose elements are not looked at), or some of them, boxes in them, and nothing else.
  // Every rank of the group on which the checkpoint was opened makes this call, with its own targets, and gets the same
  // Status. What was located before is forgotten.
  absl::Status Locate(Group& group, std::span<const ShardedTensor> targets);
  // Reads and checks all parts of the manifest, once. For a rank alone, which need not: Read does.
  absl::Status CheckParts() const;

  // Fills the box of each target. Its name, dtype and global shape must be those of the checkpoint: no conversion.
  // Boxes may lie anywhere within the shape and overlap each other.
  //
  // Of slices that intersect a target the chunks that have something of it are read (checksums are of chunks, at least
  // 1 MiB, at most 64 a slice), once per call however many targets they serve, in the order in which they lie on disk,
  // through a buffer of 1 MiB. So pass all targets that may share slices, those of one tensor, in one call.
  // After an error the targets' elements are undefined.
  absl::Status Read(std::span<const ShardedTensor> targets) const;
  absl::Status Read(const ShardedTensor& target) const { return Read(std::span(&target, 1)); }

  // The same where hosts have folders of their own: every rank of the job makes the call, with targets that it has located
  // (or none), and gets the same Status. What is not in the folder of this rank's host is read by ranks of hosts that have
  // it and sent by them, a chunk at a time. A file that turns out to be damaged, here or there, is warned about (glog), and
  // read from another host that has it.
  absl::Status ReadOnHosts(Group& all, std::span<const ShardedTensor> targets) const;
  bool on_hosts() const { return held_ != nullptr; }

 private:
  struct Held;
  struct Known;
  CheckpointReader(FileSystem& fs, std::string folder, std::shared_ptr<const Manifest> manifest);
  static absl::StatusOr<CheckpointReader> SendToAll(FileSystem& fs, Group& group, const std::string& folder,
                                                    const absl::StatusOr<CheckpointReader>& of_first);
  absl::Status CheckTargets(std::span<const ShardedTensor> targets) const;
  // The slices of the parts that are `mine`, by their numbers. `damaged` gets those that are not readable.
  absl::Status ReadParts(const std::function<bool(size_t part)>& mine, DamagedFiles* damaged,
                         std::vector<ManifestTensor>* tensors) const;
  // Makes the attempt, on all ranks, until it succeeds, nothing was damaged, or something is wherever it lies. What is
  // damaged is left aside from then on.
  absl::Status WithOtherCopies(Group& group, const std::function<absl::Status(DamagedFiles*)>& attempt) const;
  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenData(int rank) const;
  // With the manifest's path.
  absl::Status InManifest(const absl::Status& status) const;

  FileSystem* fs_;
  std::string folder_;
  std::shared_ptr<const Manifest> manifest_;
  std::vector<TensorInfo> tensors_;
  std::shared_ptr<Known> known_;
  std::shared_ptr<Held> held_;  // null: all files are in the folder
};

}  // namespace trefoil
