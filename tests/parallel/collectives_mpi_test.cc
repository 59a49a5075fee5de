#include <gtest/gtest.h>
#include <mpi.h>

#include <cstring>
#include <limits>

#include "tests/parallel/collectives_checks.h"
#include "tests/runtime/test_device.h"

namespace trefoil {
namespace {

TEST(CollectivesOnMpi, DoWhatAnyWorldMust) {
  const auto world = NewMpiWorld(nullptr, nullptr);
  int rank = 0, size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  EXPECT_EQ(world->rank(), rank);
  EXPECT_EQ(world->size(), size);
  EXPECT_EQ(world->local_rank(), rank);  // mpirun of one host
  EXPECT_EQ(world->local_size(), size);
  const TestWorld tested(*world);
  for (const Check check : ChecksOf(TestMessages())) check(*tested);
}

TEST(CollectivesOnMpi, AreThoseOfMpiWhereTheFastestAreAskedFor) {
  for (const int largest_count : {std::numeric_limits<int>::max(), 1000}) {
    const auto world = NewMpiWorld(nullptr, nullptr, {.largest_count = largest_count});
    const TestWorld tested(*world);
    for (const Check check : ChecksOfFastestSums()) check(*tested);
  }
}

// The sum of rank-dependent values by `world`: at once, then by a scatter and a gather.
std::vector<float> Sum(World& world, Device& device, int64_t elements) {
  const auto group = world.NewGroupOfAll(device);
  const Tensor x = device.Allocate(DType::kFloat32, {elements}, Purpose::kGradients);
  device.Upload(Contribution(world.rank(), elements).data(), x);
  const int64_t part = elements / group->size();
  const Tensor whole = x.Range(0, {part * group->size()});
  const Tensor mine = device.Allocate(DType::kFloat32, {part}, Purpose::kGradients);
  const Tensor gathered = device.Allocate(DType::kFloat32, {part * group->size()}, Purpose::kGradients);
  group->ReduceScatterSum(whole, mine);
  group->AllGather(mine, gathered);
  group->AllReduceSum(x);
  std::vector<float> sum(elements + gathered.elements());
  device.Download(x, sum.data());
  device.Download(gathered, sum.data() + elements);
  return sum;
}

// Directly, as the threads do; in rounds; and along the tree, where the rounds' two ranks are too many for small sums.
TEST(CollectivesOnMpi, GiveTheBitsThatThreadsGive) {
  for (const int direct_ranks : {8, 2, 1}) {
    const auto world = NewMpiWorld(nullptr, nullptr, {.direct_ranks = direct_ranks});
    const TestWorld tested(*world);
    const auto device = NewTestDevice();
    for (int64_t n : {1000, 50001, 1500001}) {  // small, of one segment, and of several
      const std::vector<float> mine = Sum(*tested, *device, n);
      std::vector<float> other;
      RunRanksAsThreads(world->size(), [&](World& threads) {
        const std::vector<float> sum = Sum(threads, *NewCpuDevice(1), n);
        if (threads.rank() == world->rank()) other = sum;
      });
      ASSERT_EQ(mine.size(), other.size());
      EXPECT_EQ(std::memcmp(mine.data(), other.data(), mine.size() * sizeof(float)), 0) << direct_ranks;
    }
  }
}

}  // namespace
}  // namespace trefoil
