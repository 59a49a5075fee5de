// Times collectives of all ranks made in rounds of two (parallel/collectives/rounds.h) beside the direct exchange:
//
//   mpirun -n 16 --oversubscribe bazel-bin/tests/parallel/collectives_benchmark 9        (turns; 9 if left out)
//
// The two take turns, and medians count, so that what else the machine does falls on both. Of 2 ranks they are the
// same: what the ratio is off 1 there is noise.
#include <absl/strings/str_format.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <vector>

#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;
using Call = std::function<void(Group&)>;

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Seconds of a call of the rank that takes longest.
double Seconds(Group& group, int calls, const Call& call) {
  group.Barrier();
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < calls; ++i) call(group);
  double seconds = std::chrono::duration<double>(Clock::now() - begin).count() / calls;
  group.AllReduceMax(std::span(&seconds, 1));
  return seconds;
}

void Compare(const char* operation, int64_t bytes, int turns, Group& direct, Group& rounds, const Call& call) {
  const int calls = static_cast<int>(std::clamp<int64_t>((int64_t{4} << 20) / bytes, 1, 100));
  call(direct);  // makes the buffers
  call(rounds);
  std::vector<double> of_direct, of_rounds, ratios;
  for (int turn = 0; turn < turns; ++turn) {
    of_direct.push_back(Seconds(direct, calls, call));
    of_rounds.push_back(Seconds(rounds, calls, call));
    ratios.push_back(of_rounds.back() / of_direct.back());
  }
  if (direct.rank() > 0) return;
  std::sort(ratios.begin(), ratios.end());
  const size_t quarter = ratios.size() / 4;
  std::cout << absl::StrFormat("%5d  %-16s %8.0f %12.3f %12.3f %14.2f   %.2f to %.2f\n", direct.size(), operation,
                               static_cast<double>(bytes) / 1024, 1e3 * Median(of_direct), 1e3 * Median(of_rounds),
                               Median(ratios), ratios[quarter], ratios[ratios.size() - 1 - quarter])
            << std::flush;
}

void Main(int turns) {
  const auto world_of_direct = NewMpiWorld(nullptr, nullptr, {.direct_ranks = std::numeric_limits<int>::max()});
  const auto world_of_rounds = NewMpiWorld(nullptr, nullptr, {.direct_ranks = 2});
  const auto device = NewCpuDevice(/*threads=*/1);
  const auto direct = world_of_direct->NewGroupOfAll(*device), rounds = world_of_rounds->NewGroupOfAll(*device);
  if (direct->rank() == 0) {
    std::cout << absl::StrFormat("%5s  %-16s %8s %12s %12s %14s   %s\n", "ranks", "operation", "KiB", "direct ms",
                                 "rounds ms", "rounds/direct", "middle half of the turns");
  }
  for (const int64_t bytes : {int64_t{1} << 10, int64_t{4} << 10, int64_t{1} << 20, int64_t{16} << 20}) {
    const int64_t n = bytes / 4;
    const Tensor all = device->Allocate(DType::kFloat32, {n}, Purpose::kGradients);
    const Tensor part = device->Allocate(DType::kFloat32, {n / direct->size()}, Purpose::kGradients);
    Fill(*device, all, 0);
    Fill(*device, part, 0);
    const auto compare = [&](const char* operation, const Call& call) {
      Compare(operation, bytes, turns, *direct, *rounds, call);
    };
    compare("AllReduceSum", [&](Group& group) { group.AllReduceSum(all); });
    compare("ReduceScatterSum", [&](Group& group) { group.ReduceScatterSum(all, part); });
    compare("AllGather", [&](Group& group) { group.AllGather(part, all); });
  }
}

}  // namespace
}  // namespace trefoil

int main(int count, char** arguments) {
  int provided = 0;
  MPI_Init_thread(&count, &arguments, MPI_THREAD_MULTIPLE, &provided);
  trefoil::Main(count > 1 ? std::atoi(arguments[1]) : 9);
  MPI_Finalize();
}
