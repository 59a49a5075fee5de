#include "launcher/plan.h"

#include <gflags/gflags.h>

#include <iostream>

#include "launcher/config.h"
#include "launcher/plan_report.h"
#include "launcher/prepare.h"
#include "runtime/cpu_features.h"

DEFINE_string(cluster, "",
              "The machines: a file (training/cluster.proto in text format, `trefoil calibrate` writes one) or the name of "
              "one that is built in, such as selene_a100. Without it memory, FLOPs and bytes are planned, but no times.");
DEFINE_int32(gpus, 0, "Ranks. 0: what parallel.tensor, pipeline and data ask for.");
DEFINE_double(train_tokens, 0, "Tokens to say the days for. 0: those of the config's steps.");

namespace trefoil {
namespace {

absl::Status RunPlan(FileSystem& fs, const std::vector<std::string>& sets) {
  if (FLAGS_gpus < 0) {
    return absl::InvalidArgumentError("--gpus: " + std::to_string(FLAGS_gpus) +
                                      ", must not be negative; nearest legal: 0");
  }
  Cluster cluster;
  if (!FLAGS_cluster.empty()) {
    TREFOIL_ASSIGN_OR_RETURN(cluster, ReadCluster(fs, FLAGS_cluster));
  }
  int ranks = FLAGS_gpus;
  TREFOIL_ASSIGN_OR_RETURN(const RunConfig config,
                           PrepareConfigToPlan(fs, sets, cluster.gpu() || CpuHasBFloat16(), &ranks));
  Planner planner(cluster);
  const Plan plan = planner.Make(config, ranks);
  const double tokens = FLAGS_train_tokens > 0 ? FLAGS_train_tokens : plan.tokens * config.training().steps();
  std::cout << ReportPlan(config, cluster, plan, tokens) << std::flush;
  return absl::OkStatus();
}

}  // namespace

int PlanMain(int argc, char** argv) {
  const absl::StatusOr<std::vector<std::string>> sets = TakeSets(&argc, argv);
  if (!sets.ok()) return Fail("plan", sets.status(), /*speak=*/true);
  const absl::Status status = RunPlan(FileSystem::Posix(), *sets);
  return status.ok() ? 0 : Fail("plan", status, /*speak=*/true);
}

}  // namespace trefoil
