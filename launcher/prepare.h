// From the command line to a config that is complete and legal: what the commands with --config have in common.
#pragma once

#include <gflags/gflags_declare.h>

#include <set>
#include <string>
#include <vector>

#include "parallel/collectives/world.h"
#include "runtime/files/file.h"
#include "training/run.pb.h"

DECLARE_string(config);

namespace trefoil {

struct Prepared {
  RunConfig config;                // complete and legal
  std::vector<std::string> notes;  // on rank 0, lines for people: what is given and has no effect, and the like
  std::string products;            // on rank 0: what CPUs multiply with, and by which speeds that was chosen; may be empty
};

// For every rank of a job, which all call it: rank 0 reads --config and `sets`, fills every default, checks every rule for
// so many ranks, and what it has got is what every rank runs. All violations are in the one error.
//
// kData: for a run on token files. Finds the tokenizer, and with it the vocabulary, if the config leaves them open.
// kMadeUp: on made-up tokens. Data and folder are not asked for, and a vocabulary left open is 50257.
//
// Failure: also ranks that are started as another program or with another command line, or whose CPUs have other bf16
// instructions than rank 0's where those are used. A config file that differs or that only rank 0 has is a note.
enum class RunTokens { kData, kMadeUp };
absl::StatusOr<Prepared> PrepareOnRanks(FileSystem& fs, const std::vector<std::string>& sets, RunTokens tokens,
                                        World& world);

// As rank 0 does for made-up tokens, for ranks that need not be there: *ranks, or where that is 0 what the axes ask for. To
// run on GPUs or on CPUs like this one.
absl::StatusOr<RunConfig> PrepareConfigToPlan(FileSystem& fs, const std::vector<std::string>& sets, bool gpus, int* ranks);

// As PrepareConfigToPlan, where the layout is to be found: fields of it that are not `pinned` are left out, so that only
// the rest must be legal. What is returned is legal for one rank.
absl::StatusOr<RunConfig> PrepareConfigToSearch(FileSystem& fs, const std::vector<std::string>& sets, bool gpus,
                                                const std::set<std::string>& pinned);

// How long this rank waits for others, as the config says.
void SetTimeLimits(World& world, const RuntimeConfig& runtime);

// Prints an error as `trefoil COMMAND: message` if `speak`; the exit status for it: 2 for a wrong command line or config,
// else 1.
int Fail(const char* command, const absl::Status& status, bool speak);

}  // namespace trefoil
