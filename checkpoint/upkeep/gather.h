// Copies a checkpoint, from one folder or from several that have some of its files each:
//
//   host 0: step-00000100/ manifest.json, rank-00000.*, rank-00001.*       its own ranks' files
//   host 1: step-00000100/ manifest.json, rank-00001.*, rank-00002.*       and perhaps copies of another host's
//
//   TREFOIL_RETURN_IF_ERROR(GatherCheckpoint(fs, {host0, host1}, "backup/checkpoints", lock_id, options));
//
// makes backup/checkpoints/step-00000100 with all files. Every byte is checked while it is copied; what is damaged in one
// folder is taken from the next that has it whole, down to single chunks. The copy is made as a save is
// (checkpoint/directory.h): under an unfinished name, flushed, the manifest last, renamed at the end.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct GatherOptions {
  // Bytes copied since the last call, all together the checkpoint's.
  std::function<void(int64_t bytes)> progress = [](int64_t) {};
  // Lines for people: what is damaged, and taken from elsewhere.
  std::function<void(const std::string& text)> warn = [](const std::string&) {};
  // Asked before the copy is made complete; an error is the copy's.
  std::function<absl::Status()> may_commit = [] { return absl::OkStatus(); };
};

// `from`: folders of the same checkpoint; manifests that are whole must be the same, byte by byte. `owner`: of the folder
// that is copied to (runtime/files/folder_lock.h), which has no checkpoint of that step. Through a few MiB of memory.
//
// On return with OK the copy is complete and on disk. Failure: FailedPrecondition if the folders' manifests differ;
// AlreadyExists; DataLoss naming what none of the folders has whole; else what the file system said. Nothing is left
// then but, if even that fails, an unfinished folder.
absl::Status GatherCheckpoint(FileSystem& fs, const std::vector<std::string>& from,
                              const std::string& run_checkpoints_folder, const std::string& owner,
                              const GatherOptions& options);

}  // namespace trefoil
