// What the parts of a training step cost one rank, found by running the trainer's own step on the null device with null
// collectives, for a few micro-batches of its list: the first, one in the middle, or one of each way in which their
// backwards come (whole, in two), and the last. A step of any number of micro-batches is made of the same parts, so its
// memory and time follow by going through its list of actions.
//
//   TimeModel time(cluster, 1);
//   const StageProfile profile = ProfileStage(config, /*ranks=*/3072, /*rank=*/17, time);
//   const MemoryUse use = FoldMemory(profile, actions, micro_batches);    // of a whole run
//
// Threads: any.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "parallel/pipeline/schedule.h"
#include "parallel/weight_gathers.h"
#include "planner/time_model.h"
#include "runtime/arena.h"
#include "training/run.pb.h"

namespace trefoil {

// What a part does to one count of bytes: how far it ends from where it began, and the highest it gets above that.
struct Track {
  int64_t net = 0, peak = 0;
  void Add(int64_t bytes) {
    net += bytes;
    peak = std::max(peak, net);
  }
};
struct MemoryTracks {
  std::array<Track, kPurposes> purposes;
  Track total;
  std::map<int64_t, Track> sizes;  // by size of block: an arena keeps each size's blocks for that size
  Track dedicated;                 // blocks that an arena gives back
};

struct OpTotal {
  int64_t calls = 0;
  double flops = 0, bytes = 0, seconds = 0;
  void Add(const OpTotal& other, double times = 1);
};

struct PartCost {
  MemoryTracks memory;
  double seconds = 0;                   // of the rank's own work and of what it waits for in collectives
  std::map<std::string, OpTotal> ops;   // by op
  std::map<std::string, OpTotal> sent;  // by group; bytes: what this rank sends
  double received = 0;                  // bytes of messages that it receives
  // What is done beside that: the reductions and gathers over the data axis of GPUs. On CPUs, where they take the same
  // cores, they are part of `seconds`.
  struct Beside {
    double start = 0;    // seconds into the part, at the earliest
    double seconds = 0;  // one after the other
  };
  std::vector<Beside> beside;
  // Seconds into the part at which it begins to use modules' weights, where these are split; without their gathers
  // (StageProfile::gathers).
  std::vector<double> uses;
};

struct StageProfile {
  // A micro-batch's place in its step, as far as it matters.
  enum class Place { kOnly, kFirst, kMiddle, kLast };
  struct Key {
    ActionKind kind;
    int chunk;
    Place place;
    bool divided;  // of a forward: its backward comes in two
    auto operator<=>(const Key&) const = default;
  };
  struct Step {
    PartCost start;      // what the step before left is given up
    PartCost constants;  // what all micro-batches have in common
    std::map<Key, PartCost> actions;
    PartCost reduce, update;
  };
  MemoryTracks build;  // before the first step
  Step first, steady;  // the first step makes buffers that later ones find
  // Of split weights: what one gather of each bucket costs, the buckets, and whose weights an action uses
  // (parallel/weight_gathers.h).
  struct GatherCost {
    std::string group;
    OpTotal total;
  };
  std::map<size_t, GatherCost> gathers;
  std::vector<Bucket> buckets;  // without entries
  BucketSlots slots;
  std::map<std::pair<ActionKind, int>, std::vector<int>> modules_used;  // by kind and chunk
  int micro_batches = 0;     // of the profile
  int64_t compiled = 0, host = 0;  // bytes of compiled kernels; of a GPU's host

  static Key KeyOf(const Action& action, int micro_batches);
  // Of a whole list.
  std::vector<Gather> GathersOf(const std::vector<Action>& actions) const;
  const PartCost& CostOf(const Step& step, const Action& action, int micro_batches) const;
};

// Of the rank whose list of a step's actions is `actions`. `config` is filled and legal for `ranks`, with its vocabulary
// set.
StageProfile ProfileStage(const RunConfig& config, const std::vector<Action>& actions, int ranks, int rank,
                          TimeModel& time);

// The part of a list that does its first few micro-batches; all of them if they are no more than `few`, which is at least
// 1.
std::vector<Action> OfFewMicroBatches(const std::vector<Action>& actions, int micro_batches, int few);

// What ProfileStage runs of a list, and by which lists differ for it: those of the same text and of stages that are alike
// have one profile.
std::string ProfiledText(const std::vector<Action>& actions, int micro_batches);

// Peaks, and what is reserved, after two steps and any number more, of a rank with this list of actions.
MemoryUse FoldMemory(const StageProfile& profile, const std::vector<Action>& actions, int micro_batches);

// Bytes in use after each action of a steady step, and the most during it.
struct MemoryPoint {
  int64_t most = 0, after = 0;
};
std::vector<MemoryPoint> MemoryOverActions(const StageProfile& profile, const std::vector<Action>& actions,
                                           int micro_batches);

}  // namespace trefoil
