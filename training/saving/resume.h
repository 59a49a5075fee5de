// From a run's worker to a checkpoint and back.
//
// Threads: the rank's main thread. Every rank of the job makes the same calls and gets the same Status.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/on_hosts.h"
#include "checkpoint/reader.h"
#include "checkpoint/storage.h"
#include "checkpoint/writer.h"
#include "runtime/files/file.h"
#include "training/run_folder.h"
#include "training/trainer_state.pb.h"
#include "training/worker.h"

namespace trefoil {

// RUN/checkpoints, or the folder of each host's own that the config names.
std::string CheckpointsFolder(const RunConfig& config);
// A run's config.pbtxt, if there is one that can be read; and where its checkpoints are, as that says.
std::optional<RunConfig> ConfigOfRun(FileSystem& fs, const std::string& run);
std::string CheckpointsOfRun(FileSystem& fs, const std::string& run);
// On how many hosts each rank's files lie, of a job on `hosts` hosts; where the config wants more than there are, that.
int CopiesOnDisk(const CheckpointConfig& config, int hosts);
int CopiesInMemory(int hosts);

// Where a run's checkpoints lie, and, if it has some, its snapshots in memory. Every rank of the job makes the call. An error
// that names the nearest legal value if the config wants more copies than there are hosts.
absl::StatusOr<RunStorage> StorageOf(const RunConfig& config, Group& all);

// What a checkpoint of `state` says besides its slices, which are left out. `owner` and `may_write` as in
// checkpoint/writer.h.
CheckpointContent ContentWithoutSlices(const Worker& worker, const TrainerState& state, const std::string& owner,
                                       const std::function<absl::Status()>& may_write);

// Writes weights, moments and `state` as step-N of the storage. On the host it needs store.most_copied_bytes() besides.
absl::Status SaveCheckpoint(FileSystem& fs, Worker& worker, const CheckpointStorage& storage, const TrainerState& state,
                            const std::string& owner, const std::function<absl::Status()>& may_write);

// Loads a checkpoint folder into the worker, whatever layout wrote it. A checkpoint of another model is an error that
// names the fields that differ. Moments that it lacks, of what was not trained, stay zero. `weights_only`: all moments
// do, and the result is a state of step 0.
absl::StatusOr<TrainerState> LoadCheckpoint(FileSystem& fs, Worker& worker, const std::string& folder,
                                            bool weights_only);
// All of one in folders of hosts' own.
absl::StatusOr<TrainerState> LoadCheckpoint(FileSystem& fs, Worker& worker, const CheckpointOnHosts& on_hosts);

// An error that names the fields if the checkpoint's model is another than `model`. `what`: the checkpoint, for the
// message; `remedy`: its last line.
absl::Status CheckModel(const CheckpointReader& reader, const std::string& what, const ModelConfig& model,
                        const std::string& remedy);

// That error; OK if nothing differs.
absl::Status OtherModel(const std::string& what, const std::vector<std::string>& differences,
                        const std::string& remedy);

// Fields in which `saved` differs from `model` so that its weights do not fit, which are all but those that
// `may_differ` names: "model.hidden: 128 in the checkpoint, 256 in this run".
std::vector<std::string> ModelDifferences(const ModelConfig& saved, const ModelConfig& model,
                                          const std::function<bool(const std::string& field)>& may_differ);
// Of a run that goes on.
std::vector<std::string> ModelDifferences(const ModelConfig& saved, const ModelConfig& model);

// A ModelConfig as the text that a checkpoint carries, and back, with a default in each field that the program which
// wrote it did not have yet. `what`: the checkpoint, for the message of the error.
std::string ModelText(const ModelConfig& model);
absl::StatusOr<ModelConfig> ModelOfText(const std::string& text, const std::string& what);

}  // namespace trefoil
