#include <gtest/gtest.h>
#include <mpi.h>

#include <cstring>

#include "tests/parallel/collectives_checks.h"

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
  for (const auto check : kChecks) check(*world);
}

// The sum of rank-dependent values, as bits, by `world`.
std::vector<float> Sum(World& world, int64_t elements) {
  const auto device = NewCpuDevice(1);
  const auto group = world.NewGroupOfAll(*device);
  const Tensor x = device->Allocate(DType::kFloat32, {elements}, Purpose::kGradients);
  device->Upload(Contribution(world.rank(), elements).data(), x);
  group->AllReduceSum(x);
  return std::vector<float>(x.data<float>(), x.data<float>() + elements);
}

TEST(CollectivesOnMpi, GiveTheBitsThatThreadsGive) {
  const auto world = NewMpiWorld(nullptr, nullptr);
  for (int64_t n : {1000, 50001}) {
    const std::vector<float> mine = Sum(*world, n);
    std::vector<float> other;
    RunRanksAsThreads(world->size(), [&](World& threads) {
      const std::vector<float> sum = Sum(threads, n);
      if (threads.rank() == world->rank()) other = sum;
    });
    ASSERT_EQ(mine.size(), other.size());
    EXPECT_EQ(std::memcmp(mine.data(), other.data(), n * sizeof(float)), 0);
  }
}

}  // namespace
}  // namespace trefoil
