#include "launcher/commands/commands.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gflags/gflags.h>
#include <sysexits.h>

#include <algorithm>
#include <csignal>
#include <iostream>

#include "launcher/cluster/hosts_report.h"
#include "launcher/cluster/machine.h"
#include "launcher/cluster/oversubscription.h"
#include "launcher/config/config.h"
#include "launcher/prepare.h"
#include "launcher/report/describe.h"
#include "model/model.h"
#include "planner/layout_search.h"
#include "planner/report/memory_report.h"
#include "planner/report/plan_report.h"
#include "runtime/host/process_memory.h"
#include "runtime/number_text.h"
#include "runtime/version.h"
#include "training/fine_tuning.h"
#include "training/saving/checkpoint_space.h"
#include "training/saving/state_snapshot.h"
#include "training/trainer.h"
#include "training/worker.h"

DEFINE_bool(allow_change, false,
            "Go on from a checkpoint although this start gives the run another meaning: another corpus, tokenizer, order of "
            "samples, sequence length or rotary base.");

namespace trefoil {
namespace {

// Set by a signal; the trainer asks for it between steps. A signal handler can reach nothing but a global.
volatile std::sig_atomic_t stop_signal = 0;

void OnSignal(int signal) { stop_signal = signal; }

void StopOnSignals() {
  // SIGUSR1 is what mpirun passes on to its ranks (launcher/commands/launch.h).
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) std::signal(signal, OnSignal);
}

Summary Summarise(const RunConfig& config, const Plan& plan, const PeakFlops& peak, int threads,
                  const std::string& products) {
  Summary summary;
  summary.products = products;
  summary.program = VersionText();
  summary.ranks = plan.ranks;
  summary.threads = threads;
  summary.parameters = plan.parameters;
  summary.trained_parameters = plan.trained_parameters;
  summary.flops_per_sample = TrainingFlops(config);
  summary.peak = peak;
  const StagePlan& fullest = plan.stages[static_cast<size_t>(plan.fullest)];
  summary.worst_rank = fullest.rank;
  for (int i = 0; i < kPurposes; ++i) {
    summary.memory.emplace_back(Name(static_cast<Purpose>(i)), fullest.memory.peak[static_cast<size_t>(i)]);
  }
  summary.reserved = fullest.memory.reserved;
  const std::vector<ModuleSpec> modules = ModulesOf(config.model());
  for (const auto& numbers : ModulesOfVirtualStages(config.model(), VirtualStages(config.parallel()))) {
    std::vector<std::string>& names = summary.modules.emplace_back();
    for (const int number : numbers) names.push_back(modules[static_cast<size_t>(number)].name);
  }
  return summary;
}

// Why the run does not fit, with the plan and with layouts that would.
absl::Status TooLarge(const RunConfig& config, const Plan& plan) {
  const StagePlan& fullest = plan.stages[static_cast<size_t>(plan.fullest)];
  std::string message = absl::StrCat(
      "memory: rank ", fullest.rank, " would reserve ", BytesText(plan.reserved()), ", must be at most ",
      BytesText(static_cast<int64_t>(plan.memory_limit)),
      config.runtime().memory_limit_gib() > 0 ? " (runtime.memory_limit_gib)" : " (its share of what is available)",
      "\n", MemoryTable(plan));
  // Times of an imagined device, to rank layouts by: where products and memory cost what they usually do.
  TREFOIL_ASSIGN_OR_RETURN(Cluster cluster, ReadCluster(FileSystem::Posix(), "dgx_a100"));
  cluster.clear_memory_gib();
  RunConfig limited = config;
  limited.mutable_runtime()->set_memory_limit_gib(static_cast<float>(plan.memory_limit / (1 << 30)));
  Planner planner(cluster);
  constexpr int kShown = 3;
  const SearchResult found = SearchLayouts(limited, plan.ranks, planner,
                                           {.pinned = {}, .simulated = 2 * kShown, .progress = nullptr});
  if (found.fits.empty()) {
    absl::StrAppend(&message, "no layout of ", plan.ranks, " ranks fits; nearest legal: more ranks, a smaller ",
                    "training.global_batch or model.sequence_length, or a higher limit");
  } else {
    absl::StrAppend(&message, "nearest legal, of the layouts that fit on ", plan.ranks, " ranks the fastest:");
  }
  for (size_t i = 0; i < found.fits.size() && i < kShown; ++i) {
    absl::StrAppend(&message, "\n  ", BytesText(found.fits[i].reserved), "  ", LayoutText(found.fits[i].config));
  }
  return absl::ResourceExhaustedError(message);
}

// Where `speak`, plans the run as `planned` says, into `host_memory` bytes of the host for a rank of GPUs, and prints the
// summary of what was prepared. Where saves in the background do not fit, `planned` has them in the foreground. An error
// if the run does not fit.
absl::Status PlanRun(const Prepared& prepared, const PeakFlops& peak, double host_memory, bool speak,
                     RunConfig* planned) {
  if (!speak) return absl::OkStatus();
  const RunConfig& config = prepared.config;
  const int ranks = static_cast<int>(RanksOfMesh(config.parallel()));
  Planner planner;
  const bool background = SavesInBackground(planned->training());
  const Plan plan = PlanWithSaves(planner, planned, ranks, host_memory);
  if (!plan.fits()) return TooLarge(config, plan);
  std::cout << Describe(config, Summarise(config, plan, peak, planned->runtime().threads(), prepared.products));
  if (background && !SavesInBackground(planned->training())) std::cout << SavesInForeground(config);
  std::cout << std::flush;
  return absl::OkStatus();
}

// Rank 0's last words: what was planned and what was taken. Every rank calls it.
void ReportMemory(const RunConfig& config, World& world, const Device& device, int64_t resident_before,
                  int64_t files_before) {
  const MemoryUse real = device.memory();
  if (real.peak[static_cast<size_t>(Purpose::kActivations)] == 0) return;  // the run was finished before
  const MemoryUse planned = Planner().MemoryOf(config, world.size(), world.rank());
  ProcessMemory process = {.before = resident_before, .real = PeakResident(), .files_since = ResidentFiles() - files_before};
  process.real -= process.files_since;
  const auto largest = [&](const MemoryUse& use) {
    std::vector<double> values(use.peak.begin(), use.peak.end());
    values.push_back(static_cast<double>(use.peak_total));
    values.push_back(static_cast<double>(use.reserved));
    values.push_back(static_cast<double>(use.host));
    world.all().AllReduceMax(std::span(values));
    MemoryUse most;
    for (size_t i = 0; i < kPurposes; ++i) most.peak[i] = static_cast<int64_t>(values[i]);
    most.peak_total = static_cast<int64_t>(values[kPurposes]);
    most.reserved = static_cast<int64_t>(values[kPurposes + 1]);
    most.host = static_cast<int64_t>(values[kPurposes + 2]);
    return most;
  };
  const MemoryUse most_planned = largest(planned), most_real = largest(real);
  const bool same = planned.peak == real.peak && planned.reserved == real.reserved && planned.host == real.host;
  double exact = same ? 1 : 0;
  world.all().AllReduceSum(std::span(&exact, 1));
  if (world.rank() != 0) return;
  std::cout << "memory    high-water marks, the largest of all ranks; exact on " << exact << " of " << world.size()
            << "\n" << CompareMemory(most_planned, most_real);
  if (device.host_addressable()) std::cout << CompareProcess(planned, process);
  std::cout << std::flush;
}

}  // namespace

int TrainMain(int argc, char** argv) {
  StopOnSignals();
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  const bool speak = world->rank() == 0;
  const absl::StatusOr<std::vector<std::string>> sets = TakeSets(&argc, argv);
  if (!sets.ok()) return Fail("train", sets.status(), speak);
  FileSystem& fs = FileSystem::Posix();
  const auto prepared = PrepareOnRanks(fs, *sets, RunTokens::kData, *world);
  if (!prepared.ok()) return Fail("train", prepared.status(), speak);
  const RunConfig* config = &prepared->config;
  SetTimeLimits(*world, config->runtime());
  auto start = FindStart(fs, *config, world->all(), FLAGS_allow_change);
  if (!start.ok()) return Fail("train", start.status(), speak);
  const auto machine = OpenMachine(*config, *world);
  if (!machine.ok()) return Fail("train", machine.status(), speak);
  Device& device = *(*machine)->device;
  const TrainingConfig::Precision precision = config->training().precision();
  const PeakFlops peak = {.vendor = VendorPeak(device, precision, world->all()),
                          .measured = MeasurePeak(device, WorkingDType(precision), world->all())};
  // Kernels' scratch depends on the threads.
  RunConfig planned = *config;
  planned.mutable_runtime()->set_threads(device.threads());
  // Snapshots in memory lie beside what the ranks hold.
  const auto snapshots = static_cast<double>(
      SnapshotBytesOfRank(*config, world->size(), static_cast<int>(world->hosts().RanksByHost().size())));
  if (planned.runtime().memory_limit_gib() == 0) {
    const double of_tensors = LeastShare(device, *world) - (device.host_addressable() ? snapshots : 0);
    planned.mutable_runtime()->set_memory_limit_gib(static_cast<float>(std::max(of_tensors, 1.0) / (1 << 30)));
  }
  const absl::Status fits =
      world->all().Agree(PlanRun(*prepared, peak, std::max(HostShare(*world) - snapshots, 1.0), speak, &planned));
  if (!fits.ok()) return Fail("train", fits, speak);
  RunConfig config_of_run = *config;
  const bool background = world->all().BroadcastString(SavesInBackground(planned.training()) ? "yes" : "no") == "yes";
  if (!background && SavesInBackground(config->training())) {
    for (RunConfig* each : {&planned, &config_of_run}) {
      each->mutable_training()->mutable_checkpoint()->set_writing(CheckpointConfig::FOREGROUND);
    }
  }
  if (speak) {
    std::cout << HostLines(config->parallel(), world->hosts()) << SavesLines(config_of_run, world->hosts()) << std::flush;
  }
  if (device.host_addressable()) {
    const std::vector<std::string> cores = world->all().GatherStrings(CoresText(device.threads()));
    if (speak) std::cout << OversubscriptionLine(world->hosts(), cores) << std::flush;
  }
  for (const std::string& note : prepared->notes) std::cout << "Note: " << note << ".\n";
  ResetPeakResident();
  const int64_t resident_before = Resident(), files_before = ResidentFiles();
  const TrainerOptions options = {
      .out = &std::cout, .stop_requested = [] { return stop_signal != 0; }, .peak = peak};
  const absl::StatusOr<RunEnd> end = Train(config_of_run, *std::move(start), (*machine)->world(), device, options);
  if (!end.ok()) return Fail("train", end.status(), speak);
  ReportMemory(planned, *world, device, resident_before, files_before);
  return *end == RunEnd::kStopped ? EX_TEMPFAIL : 0;
}

}  // namespace trefoil
