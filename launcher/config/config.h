// From a config file (or a preset's name) and `--set`s to a RunConfig.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> sets, TakeSets(&argc, argv));
//   TREFOIL_ASSIGN_OR_RETURN(RunConfig config, ReadConfig(FileSystem::Posix(), FLAGS_config, sets));
//
// The file is protobuf text format (training/run.proto); a preset is one of launcher/config/presets, built into the
// program. A name that is a preset's means the preset: a file of the same name is "./NAME".
//
// `--set PATH=VALUE` sets any field by its path from RunConfig:
//   --set parallel.tensor=2                  numbers; true and false; text without quotes
//   --set parallel.schedule=interleaved      a choice by its name, in any case
//   --set 'data.train=corpus/a-*'            a list becomes this one element (none, if VALUE is empty)
//   --set 'data.train+=corpus/b-*'           and one more
//   --set 'model=layers: 2 hidden: 64'       text format merged into a nested message
// They apply in order, after the file.
//
// All problems are reported at once, one line each:
//   run.pbtxt:12: model has no field 'hiden'; did you mean 'hidden'?
//   run.pbtxt:14: parallel.schedule: 'FAST' is not one of GPIPE, ONE_F_ONE_B, INTERLEAVED
//   --set model.layers=two: 'two' is not a whole number
// Only a mistake of syntax (a missing brace) ends the reading of a file early. Whether the values make sense together
// is asked of training/config/validate.h.
#pragma once

#include <string>
#include <vector>

#include "planner/cluster.pb.h"
#include "runtime/files/file.h"
#include "runtime/status.h"
#include "training/run.pb.h"

namespace trefoil {

// Takes every `--set X` and `--set=X` out of argv, in order; gflags has no repeated flags. Stops at `--`.
// A `--set` without its argument is an error.
absl::StatusOr<std::vector<std::string>> TakeSets(int* argc, char** argv);

absl::StatusOr<RunConfig> ReadConfig(FileSystem& fs, const std::string& path_or_preset,
                                     const std::vector<std::string>& sets);

// The cluster that a file (planner/cluster.proto in text format) or one of planner/clusters describes.
absl::StatusOr<Cluster> ReadCluster(FileSystem& fs, const std::string& path_or_name);

// Text format that ReadConfig reads back.
std::string ConfigText(const RunConfig& config);

}  // namespace trefoil
