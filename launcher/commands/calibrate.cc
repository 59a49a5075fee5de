#include "launcher/commands/commands.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gflags/gflags.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>

#include "launcher/cluster/machine.h"
#include "launcher/cluster/product_choice.h"
#include "launcher/flags/output.h"
#include "launcher/prepare.h"
#include "planner/calibration.h"
#include "planner/op_calibration.h"
#include "runtime/host/cpu_features.h"
#include "runtime/host/host_limits.h"
#include "runtime/host/process_memory.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// What follows `key` and a colon in a file of such lines; empty if there is none.
std::string Field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::string CpuName() {
  const std::string name = Field("/proc/cpuinfo", "model name");
  return name.empty() ? "CPU" : name;
}

bool IsAttention(std::string_view op) { return op.starts_with("attention"); }

double ToGiB(double bytes) { return FourDigits(bytes / (int64_t{1} << 30)); }

// Measures and fits, together with the other ranks.
class Calibration {
 public:
  Calibration(Device& device, Group& all) : device_(device), all_(all) {}

  Cluster Run() {
    cluster_.set_device(CpuName());
    cluster_.set_devices_per_node(device_.threads() * all_.size());
    cluster_.set_nodes(1);
    cluster_.set_memory_gib(ToGiB(static_cast<double>(ReadHostLimits().memory_bytes)));
    Warm();
    cluster_.set_process_gib(ToGiB(static_cast<double>(Resident())));
    const Together together = SumOver(all_);
    const double cores = cluster_.devices_per_node();
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      Peak* peak = cluster_.add_peaks();
      peak->set_dtype(Name(dtype));
      const double flops = MeasurePeakFlops(dtype, device_.threads(), together, PeakTime::kThreads);
      peak->set_tflops(FourDigits(1e-12 * flops / cores));
    }
    bandwidth_ = MeasureMemoryBandwidth(device_.threads(), together, PeakTime::kThreads) / cores;
    Say(absl::StrFormat("%s: %d cores, %.4g GiB; one of them with all busy: %.4g GFLOP/s in float32, %.4g in bfloat16, "
                        "%.4g GB/s of memory; a rank without tensors takes %.4g GiB\n\n%-24s %-9s %5s  %9s  %s\n",
                        cluster_.device(), cluster_.devices_per_node(), cluster_.memory_gib(),
                        1e3 * cluster_.peaks(0).tflops(), 1e3 * cluster_.peaks(1).tflops(), 1e-9 * bandwidth_,
                        cluster_.process_gib(), "op", "dtype", "sizes", "median", "worst error of the fitted model"));
    for (const CalibratedOp& op : CalibratedOps()) Calibrate(op);
    AddRest();
    MeasureAlone();
    MeasureLinks();
    if (10 * unsteady_ > sizes_) {
      Say(absl::StrFormat("\nOf %d sizes, %d never took the same time thrice: other programs were running, and speeds "
                          "may be too low.\nBetter measure without them, or with a rank for each core: "
                          "trefoil launch -n %d -- calibrate ...\n",
                          sizes_, unsteady_, cluster_.devices_per_node()));
    }
    return cluster_;
  }

 private:
  void Say(const std::string& text) const {
    if (all_.rank() == 0) std::cout << text << std::flush;
  }

  // Libraries load and make their threads.
  void Warm() {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      const Tensor x = device_.Allocate(dtype, {256, 256}, Purpose::kWorkspace);
      Fill(device_, x, 0.01f);
      const Tensor y = device_.Allocate(dtype, {256, 256}, Purpose::kWorkspace);
      Matmul(device_, x, Transpose::kNo, x, Transpose::kYes, y);
    }
  }

  double PeakOf(DType dtype) const {
    for (const Peak& peak : cluster_.peaks()) {
      if (peak.dtype() == Name(dtype)) return 1e12 * peak.tflops();
    }
    return 1e12 * cluster_.peaks(0).tflops();
  }

  struct Timing {
    double seconds = 0;
    bool steady = false;  // whether it came out three times
  };
  // The shortest of some tries, made by all ranks side by side: what else runs on the machine only makes them longer.
  // Tries end when three of ten or more are alike; the shorter they are, the more of them there may be.
  template <typename Try>
  Timing Shortest(const Try& once) {
    once();  // chooses algorithms, warms caches
    constexpr size_t kBatch = 10, kMost = 2000;
    constexpr double kSeconds = 0.08, kAlike = 1.1;
    std::vector<double> tries;
    Timing timing;
    const Clock::time_point begin = Clock::now();
    for (double more = 1; more > 0;) {
      for (size_t i = 0; i < kBatch && (i < 3 || Since(begin) < kSeconds); ++i) tries.push_back(once());
      timing.seconds = std::max(1e-9, *std::min_element(tries.begin(), tries.end()));
      timing.steady = 3 <= std::count_if(tries.begin(), tries.end(),
                                         [&](double seconds) { return seconds < kAlike * timing.seconds; });
      more = !timing.steady && Since(begin) < kSeconds && tries.size() < kMost;
      if (all_.size() > 1) all_.AllReduceMax(std::span(&more, 1));  // and all begin the next batch together
    }
    return timing;
  }

  // Between two calls in a step others run, and an op that does little with each byte finds few of them in a cache;
  // called again and again on the same tensors it would find them all. Products read theirs many times in any case.
  void EmptyCaches() {
    for (size_t i = 0; i < passing_.size(); i += 16) ++passing_[i];
  }

  void Calibrate(const CalibratedOp& op) {
    std::map<std::pair<std::string, DType>, Samples> samples;
    OpCount last = {};
    last.op = op.name;
    const bool alone = device_.threads() == 1;
    device_.Observe([&](const OpCount& count, Clock::time_point) { last = count; });
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      op.calls(device_, dtype, [&](const std::function<void()>& call) {
        const Timing timing = Shortest([&] {
          if (last.product.rows == 0 && !IsAttention(last.op)) EmptyCaches();
          // An op on one thread ends when that has had a core for long enough, however often others had it meanwhile.
          const double before = alone ? ThreadSeconds() : 0;
          call();
          return alone ? std::min(last.seconds, ThreadSeconds() - before) : last.seconds;
        });
        OpCount sample = PerDevice(last, device_.threads());
        sample.seconds = timing.seconds;
        Samples& of_one = samples[{last.op, last.dtype}];
        (timing.steady ? of_one.steady : of_one.unsteady).push_back(sample);
        ++sizes_;
        unsteady_ += !timing.steady;
      });
    }
    device_.Observe(nullptr);
    for (auto& [key, of_one] : samples) {
      // What never came out the same counts only where there is little else.
      std::vector<OpCount>& fitted = of_one.steady;
      if (fitted.size() < of_one.unsteady.size() || fitted.size() < 2) {
        fitted.insert(fitted.end(), of_one.unsteady.begin(), of_one.unsteady.end());
      }
      Fit(key.first, key.second, fitted);
    }
  }

  void Fit(const std::string& op, DType dtype, const std::vector<OpCount>& samples) {
    const double peak = PeakOf(dtype);
    const bool product = samples[0].product.rows > 0;
    OpSpeed speed = product ? FitProducts(samples, peak, bandwidth_)
                    : IsAttention(op) ? FitFlops(samples, peak, bandwidth_)
                                                  : FitBytes(samples);
    speed.add_ops(op);
    speed.set_dtype(Name(dtype));
    *cluster_.add_ops() = speed;
    const FitErrors errors = ErrorsOf(speed, peak, samples);
    const OpCount& worst = samples[errors.worst_sample];
    const std::string size = product ? absl::StrFormat("%d x %d x %d", worst.product.rows, worst.product.columns,
                                                       worst.product.inner)
                                     : absl::StrFormat("%.3g MFLOP, %.3g MB", 1e-6 * worst.flops, 1e-6 * worst.bytes);
    Say(absl::StrFormat("%-24s %-9s %5d  %8.1f%%  %6.1f%%, of %s: %.4g ms, model %.4g ms\n", op, Name(dtype),
                        samples.size(), 100 * errors.median, 100 * errors.worst, size, 1e3 * worst.seconds,
                        1e3 * OpSeconds(speed, peak, worst)));
  }

  // For ops that are not in the list: the memory's bandwidth, and the overhead that is usual here.
  void AddRest() {
    std::vector<double> overheads;
    for (const OpSpeed& speed : cluster_.ops()) overheads.push_back(speed.overhead_us());
    std::sort(overheads.begin(), overheads.end());
    OpSpeed* rest = cluster_.add_ops();
    rest->set_overhead_us(overheads[overheads.size() / 2]);
    rest->set_gbytes_per_second(FourDigits(1e-9 * bandwidth_));
  }

  // Products that stream their weights from memory, as in a step: by all cores at once, then by one while the rest wait.
  void MeasureAlone() {
    if (device_.threads() > 1 || all_.size() == 1) return;  // it takes a rank for each core
    constexpr int64_t kRows = 512, kInner = 768, kColumns = 3072;
    std::vector<Tensor> weights;
    for (int i = 0; i < 12; ++i) {
      weights.push_back(device_.Allocate(DType::kFloat32, {kColumns, kInner}, Purpose::kWorkspace));
      Fill(device_, weights.back(), 0.01f);
    }
    const Tensor x = device_.Allocate(DType::kFloat32, {kRows, kInner}, Purpose::kWorkspace);
    const Tensor y = device_.Allocate(DType::kFloat32, {kRows, kColumns}, Purpose::kWorkspace);
    Fill(device_, x, 0.01f);
    const auto rate = [&] {  // products per second
      constexpr double kSeconds = 0.6;
      int64_t done = 0;
      const Clock::time_point begin = Clock::now();
      for (; Since(begin) < kSeconds; ++done) {
        Matmul(device_, x, Transpose::kNo, weights[static_cast<size_t>(done) % weights.size()], Transpose::kYes, y);
      }
      return static_cast<double>(done) / Since(begin);
    };
    double together = 0, alone = 0;  // the best of three, by turns
    for (int i = 0; i < 3; ++i) {
      all_.Barrier();
      double of_all = rate();
      all_.AllReduceSum(std::span(&of_all, 1));
      together = std::max(together, of_all / all_.size());
      if (all_.rank() == 0) alone = std::max(alone, rate());
      all_.Barrier();
    }
    all_.AllReduceMax(std::span(&alone, 1));
    cluster_.set_alone_speedup(FourDigits(std::max(1.0, alone / together)));
    Say(absl::StrFormat("\na core whose neighbours wait is %.3g times as fast\n", cluster_.alone_speedup()));
  }

  void MeasureLinks() {
    Link* link = cluster_.mutable_node();
    if (all_.size() == 1) {
      // A message is copied: read and written.
      link->set_gbytes_per_second(FourDigits(1e-9 * bandwidth_ / 2));
      link->set_latency_us(1);
      Say("\nOne rank sends no messages: node and network are the speed of copying memory. To measure them:\n"
          "  trefoil launch -n 2 -- calibrate --output=...\n");
    } else {
      std::vector<std::pair<double, double>> messages;
      for (int64_t bytes = 1024; bytes <= int64_t{64} << 20; bytes *= 4) {
        const int64_t part = bytes / 4 / all_.size();
        const Tensor in = device_.Allocate(DType::kFloat32, {part}, Purpose::kCommunication);
        const Tensor out = device_.Allocate(DType::kFloat32, {part * all_.size()}, Purpose::kCommunication);
        Fill(device_, in, 0);
        Fill(device_, out, 0);
        const auto gather = [&] {
          const Clock::time_point begin = Clock::now();
          all_.AllGather(in, out);
          return Since(begin);
        };
        double seconds = Shortest(gather).seconds;
        all_.AllReduceMax(std::span(&seconds, 1));
        messages.emplace_back(static_cast<double>(out.bytes()) * (all_.size() - 1) / all_.size(), seconds);
      }
      *link = FitLink(messages);
      Say(absl::StrFormat("\nAllGather of %d ranks: %.4g us + %.4g GB/s\n", all_.size(), link->latency_us(),
                          link->gbytes_per_second()));
      for (const auto& [bytes, seconds] : messages) {
        Say(absl::StrFormat("  %10.0f bytes to and from each: %10.1f us, model %10.1f us\n", bytes, 1e6 * seconds,
                            link->latency_us() + 1e-3 * bytes / link->gbytes_per_second()));
      }
    }
    *cluster_.mutable_network() = *link;
  }

  struct Samples {  // of one op and dtype
    std::vector<OpCount> steady, unsteady;
  };

  Device& device_;
  Group& all_;
  std::vector<int32_t> passing_ = std::vector<int32_t>(4 << 20);
  int sizes_ = 0, unsteady_ = 0;
  Cluster cluster_;
  double bandwidth_ = 0;  // bytes per second of one core
};

std::string FileText(const Cluster& cluster, int ranks, int threads) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(cluster, &text);
  return absl::StrCat(
      "# A cluster of planner/cluster.proto, measured by `trefoil calibrate` with ", ranks, " rank(s) of ", threads,
      " thread(s).\n",
      ranks == 1 ? "# node: not measured, as one rank sends no messages: the speed of copying memory.\n"
                 : "# node: messages between ranks of this machine.\n",
      "# network: the same as node, as there was one machine only.\n", text);
}

absl::Status CheckStart(FileSystem& fs, const World& world) {
  TREFOIL_RETURN_IF_ERROR(CheckCpuLevel());
  if (FLAGS_output.empty()) return absl::InvalidArgumentError("--output: missing; name the file to write");
  if (fs.Exists(FLAGS_output)) {
    std::string free;
    for (int i = 2; free.empty() || fs.Exists(free); ++i) free = absl::StrCat(FLAGS_output, ".", i);
    return absl::InvalidArgumentError(
        absl::StrCat("--output: ", FLAGS_output, " exists, and is not overwritten; nearest free name: ", free));
  }
  const size_t slash = FLAGS_output.rfind('/');  // a minute before it is written to
  const std::string folder = slash == std::string::npos ? "." : FLAGS_output.substr(0, slash);
  if (!fs.Exists(folder + "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output: ", FLAGS_output, " in folder ", folder, ", which does not exist; make it first"));
  }
  if (world.size() != world.local_size()) {
    return absl::InvalidArgumentError(absl::StrCat("calibrate: ", world.size(), " ranks of which ", world.local_size(),
                                                   " are on this host; it measures one machine: start all on one"));
  }
  const int cores = CoresOfHost();
  if (world.size() > cores) {
    return absl::InvalidArgumentError(absl::StrCat("calibrate: ", world.size(), " ranks on ", cores,
                                                   " core(s); each needs one; start at most ", cores));
  }
  return absl::OkStatus();
}

// With the products of bf16 that a training takes where its config leaves them open.
RuntimeConfig LikeATraining(FileSystem& fs, Group& all) {
  RuntimeConfig runtime;
  if (all.rank() == 0) runtime.set_bf16_products(DefaultsBy(SpeedsOfThisCpu(fs, CacheFolder()).speeds).products);
  CHECK(runtime.ParseFromString(all.BroadcastString(runtime.SerializeAsString())));
  return runtime;
}

}  // namespace

int CalibrateMain(int argc, char** argv) {
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  const bool speak = world->rank() == 0;
  Group& all = world->all();
  FileSystem& fs = FileSystem::Posix();
  absl::Status status = all.Agree(CheckStart(fs, *world));
  if (!status.ok()) return Fail("calibrate", status, speak);
  const std::unique_ptr<Device> device = OpenCpu(LikeATraining(fs, all), world->local_size());
  const Clock::time_point begin = Clock::now();
  const Cluster cluster = Calibration(*device, all).Run();
  if (speak) status = WriteFileAtomically(fs, FLAGS_output, FileText(cluster, world->size(), device->threads()));
  status = all.Agree(status);
  if (!status.ok()) return Fail("calibrate", status, speak);
  if (speak) std::cout << absl::StrFormat("\nwrote %s after %.0f s\n", FLAGS_output, Since(begin));
  return 0;
}

}  // namespace trefoil
