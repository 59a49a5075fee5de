#include "launcher/cluster/machine.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "launcher/cluster/gpu_choice.h"
#include "parallel/collectives/nccl/nccl.h"
#include "runtime/devices/cuda.h"
#include "runtime/host/cpu_features.h"
#include "runtime/host/host_limits.h"
#include "runtime/host/vendor_peak.h"
#include "runtime/ops.h"
#include "training/worker.h"

namespace trefoil {
namespace {

CudaOptions::Attention AttentionOf(const RuntimeConfig& runtime) {
  switch (runtime.attention()) {
    case RuntimeConfig::CUDNN:
      return CudaOptions::Attention::kCudnn;
    case RuntimeConfig::CUDNN_DETERMINISTIC:
      return CudaOptions::Attention::kCudnnDeterministic;
    default:
      return CudaOptions::Attention::kOwn;
  }
}

// Threads may outnumber the host's cores and take turns, but not the cores that a rank is bound to while others idle.
absl::Status CheckCores(const RuntimeConfig& runtime, int threads) {
  const int allowed = CoresAllowed(), cores = CoresOfHost();
  if (allowed >= cores || threads <= allowed) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      runtime.threads() > 0 ? "runtime.threads: " : "OMP_NUM_THREADS: ", threads, ", must be at most ", allowed,
      ", the cores that this rank is bound to, of the host's ", cores, "; mpirun --bind-to none takes all; nearest legal: ",
      allowed));
}

// Every rank calls it, with or without a GPU.
absl::StatusOr<std::unique_ptr<Device>> OpenGpu(const RunConfig& config, World& host) {
  const RuntimeConfig& runtime = config.runtime();
  const absl::StatusOr<std::vector<std::string>> own = CudaUuids();
  std::vector<std::vector<std::string>> seen;
  for (const std::string& uuids : host.all().AllGatherStrings(own.ok() ? absl::StrJoin(*own, " ") : "")) {
    seen.push_back(absl::StrSplit(uuids, ' ', absl::SkipEmpty()));
  }
  TREFOIL_RETURN_IF_ERROR(own.status());
  TREFOIL_ASSIGN_OR_RETURN(const int ordinal, ChooseGpu(host.hosts(), host.rank(), seen, runtime.allow_shared_device()));
  const CudaOptions options = {.attention = AttentionOf(runtime)};
  TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<Device> gpu, NewCudaDevice(ordinal, options));
  if (config.training().precision() == TrainingConfig::FP8 && !gpu->has_float8()) {
    return absl::FailedPreconditionError("training.precision: FP8, which " + gpu->name() +
                                         " does not have; it takes a GPU of compute capability 8.9 or later; "
                                         "nearest legal: BF16");
  }
  return gpu;
}

// Memory for a measurement, which the device has again when it is over, with its high-water marks those of what is left. It
// outlives its tensors.
class Borrowed {
 public:
  explicit Borrowed(Device& device) : device_(device) {}
  ~Borrowed() { device_.arena().ResetPeak(); }
  // Of small numbers.
  Tensor Allocate(DType dtype, const Shape& shape) const {
    const int64_t bytes = shape.elements() * static_cast<int64_t>(SizeOf(dtype));
    Arena::Block block = device_.arena().AllocateDedicated(bytes, Purpose::kWorkspace);
    const Tensor tensor(std::move(block.owner), block.data, dtype, shape);
    Fill(device_, tensor, 0.01f);
    return tensor;
  }

 private:
  Device& device_;
};

// Amount per second of `work`, which queues `amount` on the device: the best of a few tries.
double BestRate(Device& device, const Together& together, double amount, const std::function<void()>& work) {
  work();  // the first call chooses algorithms
  device.Synchronize();
  double best = 0;
  for (int attempt = 0; attempt < 4; ++attempt) {
    const auto begin = std::chrono::steady_clock::now();
    constexpr int kCalls = 10;
    for (int i = 0; i < kCalls; ++i) work();
    device.Synchronize();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, together(kCalls * amount / seconds));
  }
  return best;
}

}  // namespace

std::unique_ptr<Device> OpenCpu(const RuntimeConfig& runtime, int ranks_on_host) {
  int threads = runtime.threads();
  if (const char* variable = std::getenv("OMP_NUM_THREADS"); threads == 0 && variable != nullptr) {
    threads = std::atoi(variable);
  }
  if (threads <= 0) threads = std::min(CoresAllowed(), CoresOfHost() / ranks_on_host);
  return NewCpuDevice(std::max(1, threads), Bf16ProductsOf(runtime));
}

absl::StatusOr<std::unique_ptr<Machine>> OpenMachine(const RunConfig& config, World& host) {
  const RuntimeConfig& runtime = config.runtime();
  auto machine = std::make_unique<Machine>(Machine{.host = host, .device = nullptr, .own_world = nullptr});
  if (runtime.device() != RuntimeConfig::CUDA) {
    machine->device = OpenCpu(runtime, host.local_size());
    TREFOIL_RETURN_IF_ERROR(host.all().Agree(CheckCores(runtime, machine->device->threads())));
    return machine;
  }
  absl::StatusOr<std::unique_ptr<Device>> gpu = OpenGpu(config, host);
  absl::StatusOr<std::unique_ptr<World>> world =
      runtime.messages() == RuntimeConfig::HOST ? NewStagedWorld(host) : NewNcclWorld(host);
  TREFOIL_RETURN_IF_ERROR(host.all().Agree(!gpu.ok() ? gpu.status() : world.status()));
  machine->device = *std::move(gpu);
  machine->own_world = *std::move(world);
  return machine;
}

Together SumOver(Group& all) {
  return [&all](double rate) {
    all.AllReduceSum(std::span(&rate, 1));
    return rate;
  };
}

double MeasurePeak(Device& device, DType dtype, Group& all) {
  if (device.host_addressable()) return MeasurePeakFlops(dtype, device.threads(), SumOver(all));
  constexpr int64_t kSide = 8192;
  const Borrowed borrowed(device);
  const auto square = [&] { return borrowed.Allocate(dtype, {kSide, kSide}); };
  const Tensor a = square(), b = square(), out = square();
  return BestRate(device, SumOver(all), 2.0 * kSide * kSide * kSide,
                  [&] { Matmul(device, a, Transpose::kNo, b, Transpose::kYes, out); });
}

double VendorPeak(const Device& device, TrainingConfig::Precision precision, Group& all) {
  const DType dtype = precision == TrainingConfig::FP8 ? DType::kFloat8E4M3 : WorkingDType(precision);
  const double own = VendorPeakFlops(device.model(), dtype);
  double sums[] = {own, own > 0 ? 0.0 : 1.0};
  all.AllReduceSum(sums);
  return sums[1] > 0 ? 0 : sums[0];
}

double MeasureBandwidth(Device& device, Group& all) {
  if (device.host_addressable()) return MeasureMemoryBandwidth(device.threads(), SumOver(all)) / all.size();
  const Borrowed borrowed(device);
  const Tensor x = borrowed.Allocate(DType::kFloat32, {int64_t{64} << 20});
  return BestRate(device, SumOver(all), 3.0 * static_cast<double>(x.bytes()), [&] { Add(device, x, x, x); }) /
         all.size();
}

namespace {

double LeastOf(double share, World& world) {
  double less = -share;  // the least is the largest negative
  world.all().AllReduceMax(std::span(&less, 1));
  return -less;
}

}  // namespace

double HostShare(World& host) {
  return LeastOf(static_cast<double>(ReadHostLimits().available_bytes / host.local_size()), host);
}

double LeastShare(const Device& device, World& host) {
  const int sharers = device.host_addressable() ? host.local_size() : 1;
  return LeastOf(static_cast<double>(device.available_bytes() / sharers), host);
}

}  // namespace trefoil
