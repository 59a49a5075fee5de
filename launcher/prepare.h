// From the command line to a config that is complete and legal: what the commands with --config have in common.
#pragma once

#include <gflags/gflags_declare.h>

#include <set>
#include <string>
#include <vector>

#include "parallel/world.h"
#include "runtime/file.h"
#include "training/run.pb.h"

DECLARE_string(config);

namespace trefoil {

// Reads --config and `sets`, finds the tokenizer and with it the vocabulary if the config leaves them open, fills every
// default, and checks every rule for a job of `ranks`. All violations are in the one error.
absl::StatusOr<RunConfig> PrepareConfig(FileSystem& fs, const std::vector<std::string>& sets, int ranks);

// As PrepareConfig, for a run on made-up tokens: data and folder are not asked for, and a vocabulary left open is 50257.
absl::StatusOr<RunConfig> PrepareConfigWithoutData(FileSystem& fs, const std::vector<std::string>& sets, int ranks);

// As PrepareConfigWithoutData, for ranks that need not be there: *ranks, or where that is 0 what the axes ask for. On a
// machine that multiplies bf16 in hardware or not.
absl::StatusOr<RunConfig> PrepareConfigToPlan(FileSystem& fs, const std::vector<std::string>& sets, bool bf16_hardware,
                                              int* ranks);

// As PrepareConfigToPlan, where the layout is to be found: fields of it that are not `pinned` are left out, so that only
// the rest must be legal. What is returned is legal for one rank.
absl::StatusOr<RunConfig> PrepareConfigToSearch(FileSystem& fs, const std::vector<std::string>& sets,
                                                bool bf16_hardware, const std::set<std::string>& pinned);

// Every rank's outcome of the above, as one: what only one rank cannot read is every rank's error.
absl::Status AgreeOnConfig(World& world, const absl::Status& status);

// Prints an error as `trefoil COMMAND: message` if `speak`; the exit status for it: 2 for a wrong command line or config,
// else 1.
int Fail(const char* command, const absl::Status& status, bool speak);

}  // namespace trefoil
