#include <iostream>

#include "checkpoint/directory.h"
#include "launcher/checkpoints/beside.h"
#include "launcher/commands/commands.h"
#include "launcher/flags/checkpoint.h"
#include "launcher/flags/output.h"
#include "launcher/prepare.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "training/saving/merge_adapters.h"
#include "training/saving/newest_checkpoint.h"

namespace trefoil {
namespace {

absl::Status Merge(FileSystem& fs, World& world) {
  if (FLAGS_checkpoint.empty()) return absl::InvalidArgumentError("--checkpoint: missing; give a run's folder");
  if (FLAGS_output.empty()) return absl::InvalidArgumentError("--output: missing; give a folder for the merged model");
  const absl::StatusOr<CheckpointPlace> place = FindTrained(fs, FLAGS_checkpoint);
  if (!place.ok()) {
    return absl::Status(place.status().code(), "--checkpoint: " + std::string(place.status().message()));
  }
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> there,
                           CompleteCheckpoints(fs, FLAGS_output + "/checkpoints"));
  if (!there.empty()) {
    return absl::AlreadyExistsError("--output: " + FLAGS_output + " has checkpoints already; give another folder");
  }
  const std::unique_ptr<Device> device = NewCpuDevice(1);
  const std::unique_ptr<Group> alone = world.NewGroupOfAll(*device);
  MergedCheckpoint merged;
  const auto merge = [&](const std::string& path) -> absl::Status {
    TREFOIL_ASSIGN_OR_RETURN(merged, MergeAdapters(fs, *alone, path, FLAGS_output));
    std::cout << "merged    " << path << "\n";
    return absl::OkStatus();
  };
  const auto warn = [](const std::string& text) { std::cerr << "trefoil merge: " << text << std::endl; };
  std::vector<std::string> damaged;
  if (place->checkpoints.size() == 1) {
    TREFOIL_RETURN_IF_ERROR(merge(place->checkpoints.front()));
  } else {
    TREFOIL_RETURN_IF_ERROR(FirstWhole(place->checkpoints, merge, &damaged, warn).status());
  }
  TREFOIL_RETURN_IF_ERROR(CopyBeside(
      fs, place->run, FLAGS_output,
      "The config of " + place->run + ", whose adapters `trefoil merge` has added to its matrices.",
      [](RunConfig* config) { config->mutable_model()->clear_lora(); }));
  std::cout << "matrices  " << merged.matrices << " have their adapters added\nwritten   " << merged.path
            << ", weights only: to use, or for training.checkpoint.initial_weights" << std::endl;
  return absl::OkStatus();
}

}  // namespace

int MergeMain(int, char**) {
  int exit_status = 0;
  // A world of one rank, in this process.
  RunRanksAsThreads(1, [&](World& world) {
    const absl::Status status = Merge(FileSystem::Posix(), world);
    if (!status.ok()) exit_status = Fail("merge", status, /*speak=*/true);
  });
  return exit_status;
}

}  // namespace trefoil
