#include "launcher/commands/commands.h"

#include <absl/strings/str_format.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "launcher/cluster/machine.h"
#include "launcher/config/config.h"
#include "launcher/prepare.h"
#include "model/model_text.h"
#include "planner/plan.h"
#include "planner/report/memory_report.h"
#include "planner/report/plan_report.h"
#include "runtime/number_text.h"
#include "training/actions.h"
#include "training/config/micro_batches.h"
#include "training/step.h"

DEFINE_int32(rank, 0, "The rank to be, of those that the config's layout or --ranks asks for.");
DEFINE_int32(ranks, 0, "Ranks of the job. 0: what parallel.tensor, pipeline and data ask for.");
DEFINE_int32(micro_batches, 1, "Micro-batches of a step to do, the first ones of its list. 0: all.");
DEFINE_int32(rehearsals, 2, "Steps; the fastest counts.");
DEFINE_string(here, "", "This machine, a file as for `trefoil plan --cluster`, to plan times for. Empty: none.");

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;

absl::Status InRange(const char* flag, int value, int least, int most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("--%s: %d, must be in [%d, %d]; nearest legal: %d", flag, value,
                                                    least, most, std::clamp(value, least, most)));
}

struct Measured {
  double seconds = 0;
  std::map<std::string, OpTotal> ops;
};

void PrintTimes(const Measured& measured, const StageProfile& profile, const std::vector<Action>& actions, int few) {
  std::map<std::string, OpTotal> planned;
  double seconds = 0;
  const auto add = [&](const PartCost& part) {
    seconds += part.seconds;
    for (const auto& [op, total] : part.ops) planned[op].Add(total);
  };
  for (const Action& action : actions) add(profile.CostOf(profile.steady, action, few));
  add(profile.steady.reduce);
  add(profile.steady.update);
  std::cout << absl::StrFormat("time      of a step of %d micro-batch%s: measured %.3f s, planned %s\n", few,
                               few == 1 ? "" : "es", measured.seconds,
                               seconds > 0 ? absl::StrFormat("%.3f s", seconds) : "only with --here");
  std::cout << absl::StrFormat("          %-24s %7s %12s %12s\n", "op", "calls", "measured ms",
                               seconds > 0 ? "planned ms" : "");
  std::vector<std::pair<std::string, OpTotal>> rows(measured.ops.begin(), measured.ops.end());
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  for (const auto& [op, total] : rows) {
    std::cout << absl::StrFormat("          %-24s %7d %12.2f", op, total.calls, 1e3 * total.seconds)
              << (seconds > 0 ? absl::StrFormat(" %12.2f", 1e3 * planned[op].seconds) : "") << "\n";
  }
}

absl::Status Rehearse(FileSystem& fs, const std::vector<std::string>& sets, World& alone) {
  TREFOIL_RETURN_IF_ERROR(InRange("ranks", FLAGS_ranks, 0, 1 << 20));
  TREFOIL_RETURN_IF_ERROR(InRange("rehearsals", FLAGS_rehearsals, 1, 1000));
  int ranks = FLAGS_ranks;
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, PrepareConfigToPlan(fs, sets, /*gpus=*/false, &ranks));
  TREFOIL_RETURN_IF_ERROR(InRange("rank", FLAGS_rank, 0, ranks - 1));
  const int micro_batches = MicroBatchesPerStep(config);
  TREFOIL_RETURN_IF_ERROR(InRange("micro_batches", FLAGS_micro_batches, 0, micro_batches));
  Cluster here;
  if (!FLAGS_here.empty()) {
    TREFOIL_ASSIGN_OR_RETURN(here, ReadCluster(fs, FLAGS_here));
  }

  TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<Machine> machine, OpenMachine(config, alone));
  Device& device = *machine->device;
  const int few = FLAGS_micro_batches == 0 ? micro_batches : FLAGS_micro_batches;
  const std::vector<Action> actions = OfFewMicroBatches(ActionsOf(config, FLAGS_rank), micro_batches, few);
  RunConfig part = config;
  SetMicroBatchesPerStep(few, &part);
  part.mutable_runtime()->set_threads(device.threads());
  part.mutable_training()->mutable_checkpoint()->set_writing(CheckpointConfig::FOREGROUND);  // nothing is saved
  TimeModel time(here, DevicesPerRank(part, here, 1));
  const StageProfile profile = ProfileStage(part, actions, ranks, FLAGS_rank, time);
  const MemoryUse planned = FoldMemory(profile, actions, few);
  std::cout << "rehearsal rank " << FLAGS_rank << " of " << ranks << " on " << device.name() << " with "
            << device.threads() << " threads\nmodel     " << ModelInWords(config.model()) << "\nlayout    " << LayoutText(config) << ", "
            << TrainingConfig::Precision_Name(config.training().precision()) << "\nplanned   "
            << BytesText(planned.reserved) << " for tensors, " << BytesText(device.available_bytes()) << " available"
            << std::endl;
  if (planned.reserved > device.available_bytes() && device.available_bytes() > 0) {
    return absl::ResourceExhaustedError(
        "rank " + std::to_string(FLAGS_rank) + " would take " + BytesText(planned.reserved) + " for tensors, but " +
        BytesText(device.available_bytes()) + " are available here; split the model more (parallel.tensor, pipeline), or " +
        "recompute, or give fewer --micro_batches");
  }

  const std::unique_ptr<World> null = NewNullWorld(ranks, FLAGS_rank);
  // A GPU's messages to nobody go through the host.
  const std::unique_ptr<World> staged = device.host_addressable() ? nullptr : NewStagedWorld(*null);
  Worker worker(part, staged != nullptr ? *staged : *null, device, VirtualStages(part.parallel()),
                actions);
  worker.store.Initialize(config.training().seed(), worker.groups);
  const BatchSource source = ZerosSource(config);
  Measured measured;
  for (int step = 1; step <= FLAGS_rehearsals; ++step) {
    std::map<std::string, OpTotal> ops;
    device.Observe([&](const OpCount& count, Clock::time_point) {
      ops[count.op].Add({.calls = 1, .flops = count.flops, .bytes = count.bytes, .seconds = count.seconds});
    });
    const Clock::time_point begin = Clock::now();
    TREFOIL_RETURN_IF_ERROR(TrainStep(worker, source, step, 0, 1e-6).status());
    device.Synchronize();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    std::cout << absl::StrFormat("step %d/%d  %.3f s", step, FLAGS_rehearsals, seconds) << std::endl;
    if (step > 1 && measured.seconds <= seconds) continue;
    measured = {.seconds = seconds, .ops = std::move(ops)};
  }
  device.Observe(nullptr);
  std::cout << "memory    high-water marks"
            << (FLAGS_rehearsals == 1 ? "; later steps than the first have buffers from their beginning\n" : "\n")
            << CompareMemory(planned, device.memory());
  PrintTimes(measured, profile, actions, few);
  return absl::OkStatus();
}

}  // namespace

int RehearseMain(int argc, char** argv) {
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  const bool speak = world->rank() == 0;
  const absl::StatusOr<std::vector<std::string>> sets = TakeSets(&argc, argv);
  if (!sets.ok()) return Fail("rehearse", sets.status(), speak);
  absl::Status status = absl::OkStatus();
  if (world->size() > 1) {
    status = absl::InvalidArgumentError("started as " + std::to_string(world->size()) +
                                        " ranks, must be one; --rank says which of a large job it is");
  } else {
    status = Rehearse(FileSystem::Posix(), *sets, *world);
  }
  return status.ok() ? 0 : Fail("rehearse", status, speak);
}

}  // namespace trefoil
