#include "launcher/commands/commands.h"

#include <absl/strings/str_format.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>
#include <mutex>

#include "launcher/cluster/machine.h"
#include "launcher/config/config.h"
#include "launcher/prepare.h"
#include "model/model.h"
#include "model/model_text.h"
#include "planner/stage_profile.h"
#include "runtime/random.h"
#include "training/fine_tuning.h"
#include "training/step.h"
#include "training/tasks/tasks.h"

DEFINE_int32(steps, 5, "Steps to time; the median counts.");
DEFINE_int32(warm_up, 2, "Steps before those.");

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;

// Ids drawn uniformly, the same for every run and layout.
BatchSource RandomIds(const RunConfig& config) {
  const auto draw = [](const char* name, int32_t below, int64_t first, HostTensor* ids) {
    if (!ids->defined()) return;
    const uint64_t key = RandomKey(/*seed=*/7, name);
    std::vector<int32_t>& values = ids->values<int32_t>();
    const auto begin = static_cast<uint64_t>(first) * (values.size() / static_cast<size_t>(ids->shape()[0]));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<int32_t>(Philox(key, begin + i)[0] % static_cast<uint32_t>(below));
    }
  };
  return BatchSource(
      [=](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
        const ModelConfig& model = config.model();
        Batch batch = ZeroBatch(config, count, HasWeights(config));
        batch.first_sample = first;
        draw("inputs", model.vocabulary(), first, &batch.inputs);
        draw("decoder_inputs", model.vocabulary(), first, &batch.decoder_inputs);
        draw("targets", model.head() == ModelConfig::CLASSES ? model.classes() : model.vocabulary(), first,
             &batch.targets);
        if (batch.weights.defined()) std::ranges::fill(batch.weights.values<float>(), 1.0f);
        return batch;
      },
      HasWeights(config));
}

// Time by op of one step, longest first, each beside its floor: FLOPs over the peak or bytes over the bandwidth.
void PrintOps(const std::map<std::string, OpTotal>& ops, double step_seconds, double peak, double bandwidth) {
  std::vector<std::pair<std::string, OpTotal>> rows(ops.begin(), ops.end());
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  std::cout << absl::StrFormat("\n%-24s %7s %10s %7s %10s %8s %10s\n", "op (rank 0, one step)", "calls", "ms", "share",
                               "GFLOP/s", "GB/s", "floor ms");
  double in_ops = 0;
  for (const auto& [name, op] : rows) {
    in_ops += op.seconds;
    std::cout << absl::StrFormat("%-24s %7d %10.2f %6.1f%% %10.1f %8.1f %10.2f\n", name, op.calls, 1e3 * op.seconds,
                                 100 * op.seconds / step_seconds, op.flops / op.seconds * 1e-9,
                                 op.bytes / op.seconds * 1e-9,
                                 1e3 * std::max(op.flops / peak, op.bytes / bandwidth));
  }
  std::cout << absl::StrFormat("%-24s %7s %10.2f %6.1f%%\n", "outside ops", "", 1e3 * (step_seconds - in_ops),
                               100 * (step_seconds - in_ops) / step_seconds);
}

absl::Status Bench(const Prepared& prepared, World& world, Device& device) {
  const RunConfig& config = prepared.config;
  const bool speak = world.rank() == 0;
  const DType dtype = WorkingDType(config.training().precision());
  Worker worker(config, world, device);
  worker.store.Initialize(config.training().seed(), worker.groups);
  const BatchSource source = RandomIds(config);
  const During steps(*worker.all, Phase::kStep);
  int64_t step = 0;
  auto one_step = [&]() -> absl::StatusOr<double> {
    ++step;
    worker.all->Barrier();
    const Clock::time_point begin = Clock::now();
    const int64_t first = (step - 1) * config.training().global_batch();
    TREFOIL_RETURN_IF_ERROR(TrainStep(worker, source, step, first, 1e-4).status());
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  for (int i = 0; i < FLAGS_warm_up; ++i) TREFOIL_RETURN_IF_ERROR(one_step().status());
  // Measured between warm-up and timing: the same minute, and the machine awake. All ranks at once, as in a step.
  const double peak = MeasurePeak(device, dtype, *worker.all);
  const double own_peak = peak / world.size();
  const double own_bandwidth = MeasureBandwidth(device, *worker.all);
  const int64_t acquisitions = device.arena().acquisitions();
  std::vector<double> seconds;
  for (int i = 0; i < FLAGS_steps; ++i) {
    TREFOIL_ASSIGN_OR_RETURN(seconds.emplace_back(), one_step());
  }
  const int64_t allocated = device.arena().acquisitions() - acquisitions;
  std::sort(seconds.begin(), seconds.end());

  std::map<std::string, OpTotal> ops;
  std::mutex mutex;  // collectives may add on a thread of their own
  device.Observe([&](const OpCount& count, Clock::time_point) {
    std::lock_guard lock(mutex);
    OpTotal& total = ops[count.op];
    ++total.calls;
    total.flops += count.flops;
    total.bytes += count.bytes;
    total.seconds += count.seconds;
  });
  TREFOIL_ASSIGN_OR_RETURN(const double observed, one_step());
  device.Observe(nullptr);
  if (!speak) return absl::OkStatus();

  const double median = seconds[seconds.size() / 2];
  const ModelConfig& model = config.model();
  const SampleSize sample = SampleSizeOf(model);
  const double units = static_cast<double>(config.training().global_batch() * sample.units);
  const double flops = TrainingFlops(config) * config.training().global_batch();
  std::cout << ModelInWords(model) << "\n" << absl::StrFormat(
      "%d parameters, batch %s in micro-batches of %d, %s, %d rank(s) x %d thread(s)\n"
      "measured peak (%s, all ranks) %.1f GFLOP/s, memory %.1f GB/s per rank\n"
      "step %.1f ms (median of %d; %.1f to %.1f), %.1f %s/s, %.1f model GFLOP/s (%s), "
      "%.1f%% of peak\n"
      "tensor memory %.2f GiB at its highest on rank 0; requests to the system during the timed steps: %d\n",
      worker.table.elements(), sample.Of(config.training().global_batch()),
      config.training().micro_batch(), Name(dtype), world.size(), device.threads(), Name(dtype), peak * 1e-9,
      own_bandwidth * 1e-9, 1e3 * median, seconds.size(), 1e3 * seconds.front(), 1e3 * seconds.back(),
      units / median, sample.unit, flops / median * 1e-9, TrainingFlopsRule(config), 100 * flops / median / peak,
      static_cast<double>(device.memory().peak_total) / (1 << 30), allocated);
  if (!prepared.products.empty()) std::cout << "products: " << prepared.products << "\n";
  PrintOps(ops, observed, own_peak, own_bandwidth);
  return absl::OkStatus();
}

}  // namespace

int BenchMain(int argc, char** argv) {
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  const bool speak = world->rank() == 0;
  const absl::StatusOr<std::vector<std::string>> sets = TakeSets(&argc, argv);
  if (!sets.ok()) return Fail("bench", sets.status(), speak);
  if (FLAGS_steps < 1 || FLAGS_warm_up < 0) {
    return Fail("bench", absl::InvalidArgumentError("--steps must be at least 1, --warm_up at least 0"), speak);
  }
  const auto prepared = PrepareOnRanks(FileSystem::Posix(), *sets, RunTokens::kMadeUp, *world);
  if (!prepared.ok()) return Fail("bench", prepared.status(), speak);
  const RunConfig* config = &prepared->config;
  SetTimeLimits(*world, config->runtime());
  const auto machine = OpenMachine(*config, *world);
  if (!machine.ok()) return Fail("bench", machine.status(), speak);
  const absl::Status status = Bench(*prepared, (*machine)->world(), *(*machine)->device);
  return status.ok() ? 0 : Fail("bench", status, speak);
}

}  // namespace trefoil
