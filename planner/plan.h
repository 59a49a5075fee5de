// What a run will take on a cluster, before anything is allocated: memory by purpose, FLOPs, bytes sent, and the time
// of a step, for a rank of every stage.
//
// Nothing is counted by formulas of its own: the trainer's step runs on the null device (planner/stage_profile.h), the
// schedule's lists are simulated (parallel/pipeline/schedule.h) with the times of planner/time_model.h, and a stage
// whose part of the model is as another's is not run again.
//
//   Planner planner(cluster);
//   const Plan plan = planner.Make(config, /*ranks=*/3072);
//   plan.stages[plan.fullest].memory.reserved;
//
// Threads: one planner is for one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "parallel/pipeline/schedule.h"
#include "planner/cluster.pb.h"
#include "planner/stage_profile.h"
#include "training/run.pb.h"

namespace trefoil {

struct StagePlan {
  int rank = 0;      // the one that was planned: of the stage's ranks one that needs most
  MemoryUse memory;  // peaks
  std::vector<MemoryPoint> over_actions;  // of a steady step; empty without a cluster
  std::map<std::string, OpTotal> ops;     // of one step, by op
  std::map<std::string, OpTotal> sent;    // by group
  int64_t gathers = 0;                    // of split weights, in one step
  double gathers_seconds = 0;             // that they add to the stage's actions
  double busy_seconds = 0;                // computing, in the schedule
  double schedule_end = 0;                // seconds into the step
  double reduced = 0;                     // its gradients are
  double updated = 0;                     // its parameters are
};

struct Plan {
  int ranks = 0, micro_batches = 0;
  int64_t parameters = 0, trained_parameters = 0;
  double tokens = 0;       // of a step
  double model_flops = 0;  // of a step (TrainingFlops)
  double counted_flops = 0;  // of the matrix products that all ranks make in a step, recomputation included
  std::vector<StagePlan> stages;
  int fullest = 0;  // stage that holds most memory
  std::vector<std::vector<Action>> actions;  // per stage
  ScheduleTimes schedule;
  double step_seconds = 0;
  double bubble = 0;       // share of the schedule in which a stage does not compute, mean over stages
  double peak_flops = 0;   // of all ranks
  double memory_limit = 0; // bytes of one rank that tensors may take; 0: unknown

  int64_t reserved() const { return stages[static_cast<size_t>(fullest)].memory.reserved; }
  double host_limit = 0;   // the same, for GPUs, of the host
  // Of a rank, for GPUs: beside the device's, on the host.
  int64_t host_memory() const {
    int64_t most = 0;
    for (const StagePlan& stage : stages) most = std::max(most, stage.memory.host);
    return most;
  }
  bool fits() const { return memory_limit <= 0 || static_cast<double>(reserved()) <= memory_limit; }
  double tokens_per_second() const { return step_seconds > 0 ? tokens / step_seconds : 0; }
  double utilisation() const {  // MFU, 0 to 1
    return step_seconds > 0 && peak_flops > 0 ? model_flops / step_seconds / peak_flops : 0;
  }
};

struct Estimate {
  double seconds = 0;
  MemoryUse memory;
  bool fits = true;
};

class Planner {
 public:
  // Without a cluster times are 0 and memory has no limit.
  explicit Planner(const Cluster& cluster = {});
  ~Planner();
  // `config` is filled and legal for `ranks`, with its vocabulary set. runtime.memory_limit_gib is a limit beside the
  // cluster's.
  Plan Make(const RunConfig& config, int ranks);
  // A quick look at one stage of each kind, the first among them: the memory of the fullest, exactly; the step's time as if
  // nothing but the first micro-batches made stages wait.
  Estimate EstimateStep(const RunConfig& config, int ranks);
  // How long a micro-batch takes in each virtual stage of the config's on this cluster, in milliseconds, for
  // parallel.schedule_search; in_flight is the config's.
  ScheduleSearchConfig SearchTimes(const RunConfig& config, int ranks);
  // Memory of one rank alone, exactly.
  MemoryUse MemoryOf(const RunConfig& config, int ranks, int rank);

  // Bytes of one rank that tensors may take; 0: unknown.
  double MemoryLimit(const RunConfig& config, int ranks) const;
  const Cluster& cluster() const { return cluster_; }

 private:
  // Of the rank whose list is `actions`.
  const StageProfile& Profile(const RunConfig& config, const std::vector<Action>& actions, int ranks, int rank,
                              const std::vector<std::string>& likenesses, TimeModel& time);

  const Cluster cluster_;
  std::map<std::string, StageProfile> profiles_;
};

// Plans with the second buffer of saves in the background where it fits, on GPUs into `host_limit` bytes of the host for
// a rank (0: what the cluster says, or it is unknown); where the run fits only without, without, and `config` then has its
// saves in the foreground.
Plan PlanWithSaves(Planner& planner, RunConfig* config, int ranks, double host_limit = 0);

// Cores of a rank of a CPU cluster, 1 GPU else.
int DevicesPerRank(const RunConfig& config, const Cluster& cluster, int ranks);

}  // namespace trefoil
