// From the command line to a config that is complete and legal: what train and bench have in common.
#pragma once

#include <gflags/gflags_declare.h>

#include <memory>
#include <string>
#include <vector>

#include "parallel/collectives.h"
#include "parallel/world.h"
#include "runtime/device.h"
#include "runtime/file.h"
#include "runtime/peak.h"
#include "training/run.pb.h"

DECLARE_string(config);

namespace trefoil {

// Reads --config and `sets`, finds the tokenizer and with it the vocabulary if the config leaves them open, fills every
// default, and checks every rule for a job of `ranks`. All violations are in the one error.
absl::StatusOr<RunConfig> PrepareConfig(FileSystem& fs, const std::vector<std::string>& sets, int ranks);

// As PrepareConfig, for a run on made-up tokens: data and folder are not asked for, and a vocabulary left open is 50257.
absl::StatusOr<RunConfig> PrepareConfigWithoutData(FileSystem& fs, const std::vector<std::string>& sets, int ranks);

// Every rank's outcome of the above, as one: what only one rank cannot read is every rank's error.
absl::Status AgreeOnConfig(World& world, const absl::Status& status);

// The device of a rank: runtime.threads threads; else OMP_NUM_THREADS; else the host's cores shared among its ranks.
std::unique_ptr<Device> NewDeviceFor(const RuntimeConfig& runtime, int ranks_on_host);

// For runtime/peak.h: the ranks of `all`, which must outlive it, measure side by side.
Together SumOver(Group& all);

// Prints an error as `trefoil COMMAND: message` if `speak`; the exit status for it: 2 for a wrong command line or config,
// else 1.
int Fail(const char* command, const absl::Status& status, bool speak);

}  // namespace trefoil
