#include "launcher/train.h"

#include <csignal>
#include <iostream>

#include "launcher/config.h"
#include "launcher/describe.h"
#include "launcher/machine.h"
#include "launcher/prepare.h"
#include "model/model.h"
#include "training/memory_plan.h"
#include "training/trainer.h"
#include "training/worker.h"

namespace trefoil {
namespace {

// Set by a signal; the trainer asks for it between steps. A signal handler can reach nothing but a global.
volatile std::sig_atomic_t stop_signal = 0;

void OnSignal(int signal) { stop_signal = signal; }

void StopOnSignals() {
  // SIGUSR1 is what mpirun passes on to its ranks (launcher/launch.h).
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) std::signal(signal, OnSignal);
}

Summary Summarise(const RunConfig& config, int ranks, double peak, int threads) {
  Summary summary;
  summary.ranks = ranks;
  summary.threads = threads;
  summary.parameters = DeclareModel(config.model()).elements();
  summary.flops_per_token = ModelFlopsPerToken(config.model(), config.model().sequence_length());
  summary.peak_flops = peak;
  const MemoryPlan plan = PlanMemory(config, ranks);
  summary.worst_rank = plan.rank;
  for (int i = 0; i < kPurposes; ++i) {
    summary.memory.emplace_back(Name(static_cast<Purpose>(i)), plan.use.peak[static_cast<size_t>(i)]);
  }
  for (int piece = 0; piece < config.parallel().pipeline() * config.parallel().chunks(); ++piece) {
    summary.pieces.push_back(HomesOfPiece(config.model(), piece, config.parallel().pipeline() * config.parallel().chunks()));
  }
  return summary;
}

}  // namespace

int TrainMain(int argc, char** argv) {
  StopOnSignals();
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  const bool speak = world->rank() == 0;
  const absl::StatusOr<std::vector<std::string>> sets = TakeSets(&argc, argv);
  if (!sets.ok()) return Fail("train", sets.status(), speak);
  const auto config = PrepareConfig(FileSystem::Posix(), *sets, world->size());
  const absl::Status agreed = AgreeOnConfig(*world, config.status());
  if (!agreed.ok()) return Fail("train", agreed, speak);
  world->set_timeout_seconds(config->runtime().timeout_seconds());
  const auto machine = OpenMachine(*config, *world);
  if (!machine.ok()) return Fail("train", machine.status(), speak);
  Device& device = *(*machine)->device;
  const double peak =
      MeasurePeak(device, WorkingDType(config->training().precision()),
                  *world->NewGroupOfAll(*NewCpuDevice(/*threads=*/1)));
  if (speak) std::cout << Describe(*config, Summarise(*config, world->size(), peak, device.threads())) << std::flush;
  const TrainerOptions options = {
      .out = &std::cout, .stop_requested = [] { return stop_signal != 0; }, .peak_flops = peak};
  const absl::Status status = Train(*config, (*machine)->world(), device, options);
  return status.ok() ? 0 : Fail("train", status, speak);
}

}  // namespace trefoil
