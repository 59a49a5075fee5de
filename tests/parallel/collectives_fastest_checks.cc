// The checks of collectives_checks.h of RankSums::kFastest.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <string_view>

#include "tests/parallel/collectives_checks.h"
#include "tests/runtime/test_device.h"

namespace trefoil {
namespace {

// `world` with groups of RankSums::kFastest, whatever is asked for.
class FastestWorld : public World {
 public:
  explicit FastestWorld(World& world) : world_(world) {}
  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  int local_rank() const override { return world_.local_rank(); }
  int local_size() const override { return world_.local_size(); }
  const Hosts& hosts() const override { return world_.hosts(); }
  Group& all() override { return world_.all(); }
  std::unique_ptr<Group> NewGroup(const std::string& name, const std::vector<int>& ranks, Device& device,
                                  RankSums) override {
    return world_.NewGroup(name, ranks, device, RankSums::kFastest);
  }
  std::unique_ptr<Group> NewGroupBeside(const std::string& name, Phase phase) override {
    return world_.NewGroupBeside(name, phase);
  }
  Patience& patience() override { return world_.patience(); }

 private:
  World& world_;
};

float Rounded(DType dtype, float value) {
  return dtype == DType::kFloat32 ? value : static_cast<float>(BFloat16(value));
}

Tensor Upload(Device& device, DType dtype, const std::vector<float>& values) {
  const Tensor x = device.Allocate(dtype, {static_cast<int64_t>(values.size())}, Purpose::kGradients);
  if (dtype == DType::kFloat32) {
    device.Upload(values.data(), x);
  } else {
    device.Upload(std::vector<BFloat16>(values.begin(), values.end()).data(), x);
  }
  return x;
}

std::vector<float> Download(Device& device, const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.elements()));
  if (x.dtype() == DType::kFloat32) {
    device.Download(x, values.data());
  } else {
    std::vector<BFloat16> halves(values.size());
    device.Download(x, halves.data());
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(halves[i]);
  }
  return values;
}

// `sum` is elements [begin, ...) of the sum of all ranks' contributions of n elements, but for a rounding at each
// addition.
void ExpectSum(const std::vector<float>& sum, DType dtype, int ranks, int64_t n, int64_t begin) {
  std::vector<double> exact(sum.size()), magnitude(sum.size());
  for (int r = 0; r < ranks; ++r) {
    const std::vector<float> all = Contribution(r, n);
    for (size_t i = 0; i < sum.size(); ++i) {
      const double value = Rounded(dtype, all[static_cast<size_t>(begin) + i]);
      exact[i] += value;
      magnitude[i] += std::abs(value);
    }
  }
  const double unit = dtype == DType::kFloat32 ? 0x1p-24 : 0x1p-8;
  for (size_t i = 0; i < sum.size(); ++i) {
    ASSERT_NEAR(sum[i], exact[i], ranks * unit * magnitude[i]) << "element " << i << " of " << n << " " << Name(dtype);
  }
}

void ExpectSameOnAllRanks(Group& group, const std::vector<float>& values) {
  const std::string_view bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  for (const std::string& hash : group.AllGatherStrings(std::to_string(std::hash<std::string_view>()(bytes)))) {
    EXPECT_EQ(hash, std::to_string(std::hash<std::string_view>()(bytes))) << values.size() << " elements";
  }
}

void CheckSums(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  const int P = group->size(), rank = group->rank();
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    // Fewer elements than ranks; no multiple of the ranks; several pieces.
    for (const int64_t n : {0, 1, 2, 7, 1000, 4099, 300001}) {
      const Tensor x = Upload(*device, dtype, Contribution(rank, n));
      group->AllReduceSum(x);
      const std::vector<float> sum = Download(*device, x);
      ExpectSum(sum, dtype, P, n, 0);
      ExpectSameOnAllRanks(*group, sum);
    }
    for (const int64_t n : {0, 1, 3, 511, 5000}) {
      for (const bool in_place : {false, true}) {
        const Tensor in = Upload(*device, dtype, Contribution(rank, n * P));
        const Tensor out = in_place ? in.Range(rank * n, {n}) : device->Allocate(dtype, {n}, Purpose::kGradients);
        group->ReduceScatterSum(in, out);
        ExpectSum(Download(*device, out), dtype, P, n * P, rank * n);
      }
    }
  }
}

// Real and null groups of RankSums::kFastest count the same, by a ring's formulas, and neither takes memory for
// messages.
void CheckRing(World& world) {
  const auto null_world = NewNullWorld(world.size(), world.rank());
  const auto device = NewTestDevice(), null_device = NewNullDevice();
  const auto real = world.NewGroupOfAll(*device);
  const auto null = null_world->NewGroupOfAll(*null_device, RankSums::kFastest);
  const int64_t P = world.size();
  const auto expect = [&](const char* what, int64_t bytes, int64_t messages, const auto& body) {
    for (const auto& [group, on] : {std::pair(real.get(), device.get()), std::pair(null.get(), null_device.get())}) {
      const int64_t bytes_before = group->bytes_sent(), messages_before = group->messages_sent();
      body(*group, [on = on](int64_t n) { return on->Allocate(DType::kFloat32, {n}, Purpose::kActivations); });
      EXPECT_EQ(group->bytes_sent() - bytes_before, bytes) << what << " on " << on->name();
      EXPECT_EQ(group->messages_sent() - messages_before, messages) << what << " on " << on->name();
    }
  };
  const int64_t n = 840 * P;
  expect("sum", 2 * 4 * 840 * (P - 1), 2 * (P - 1), [&](Group& g, auto floats) { g.AllReduceSum(floats(n)); });
  expect("uneven sum", 2 * (4 * 1001 * (P - 1) / P), 2 * (P - 1),
         [&](Group& g, auto floats) { g.AllReduceSum(floats(1001)); });
  expect("scatter", 4 * 840 * (P - 1), P - 1,
         [&](Group& g, auto floats) { g.ReduceScatterSum(floats(n), floats(840)); });
  expect("gather", 4 * 840 * (P - 1), P - 1, [&](Group& g, auto floats) { g.AllGather(floats(840), floats(n)); });
  expect("broadcast", 4 * 840 * (P - 1), P - 1, [&](Group& g, auto floats) { g.Broadcast(floats(n), 0); });
  expect("nothing", 0, 0, [&](Group& g, auto floats) {
    g.AllReduceSum(floats(0));
    g.ReduceScatterSum(floats(0), floats(0));
    g.AllGather(floats(0), floats(0));
    g.Broadcast(floats(0), 0);
  });
  for (Device* on : {device.get(), null_device.get()}) {
    EXPECT_EQ(on->memory().peak[static_cast<size_t>(Purpose::kCommunication)], 0) << on->name();
  }
}

template <Check check>
void OnFastest(World& world) {
  FastestWorld fastest(world);
  check(fastest);
}

}  // namespace

std::span<const Check> ChecksOfFastestSums() {
  static constexpr Check kChecks[] = {
      OnFastest<CheckSums>,
      OnFastest<CheckRing>,
      OnFastest<CheckAllGather>,
      OnFastest<CheckAllToAll>,
      OnFastest<CheckBroadcast>,
      OnFastest<CheckMessagesInOrder>,
      OnFastest<CheckHostNumbersAndTexts>,
      OnFastest<CheckSubgroups>,
      OnFastest<CheckFinishSend>,
  };
  return kChecks;
}

}  // namespace trefoil
