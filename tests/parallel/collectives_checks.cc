#include "tests/parallel/collectives_checks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <thread>
#include <valarray>

#include "runtime/device.h"
#include "tests/runtime/sum_order.h"
#include "tests/runtime/test_device.h"

namespace trefoil {
namespace {

Tensor Upload(Device& device, DType dtype, const std::vector<float>& values) {
  const Tensor x = device.Allocate(dtype, {static_cast<int64_t>(values.size())}, Purpose::kActivations);
  if (dtype == DType::kFloat32) {
    device.Upload(values.data(), x);
  } else {
    std::vector<BFloat16> rounded(values.begin(), values.end());
    device.Upload(rounded.data(), x);
  }
  return x;
}

std::vector<char> Bits(Device& device, const Tensor& x) {
  std::vector<char> bits(x.bytes());
  device.Download(x, bits.data());
  return bits;
}

// Elements [begin, end) of the sum of all ranks' contributions, in float32.
std::vector<char> ExpectedSum(DType dtype, int ranks, int64_t elements, int64_t begin, int64_t end) {
  std::vector<std::valarray<float>> parts;
  for (int r = 0; r < ranks; ++r) {
    const std::vector<float> all = Contribution(r, elements);
    parts.emplace_back(all.data() + begin, static_cast<size_t>(end - begin));
    if (dtype == DType::kFloat32) continue;
    for (float& value : parts.back()) value = static_cast<float>(BFloat16(value));
  }
  const std::valarray<float> total = SumInOrder(parts);
  const std::vector<float> sum(std::begin(total), std::end(total));
  std::vector<char> bits((end - begin) * SizeOf(dtype));
  if (bits.empty()) return bits;
  if (dtype == DType::kFloat32) {
    std::memcpy(bits.data(), sum.data(), bits.size());
  } else {
    std::vector<BFloat16> rounded(sum.begin(), sum.end());
    std::memcpy(bits.data(), rounded.data(), bits.size());
  }
  return bits;
}

std::vector<float> Floats(Device& device, const Tensor& x) {
  std::vector<float> values(x.elements());
  device.Download(x, values.data());
  return values;
}

std::vector<int> AllRanks(const World& world) {
  std::vector<int> ranks(world.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

Tensor Integers(Device& device, const std::vector<int32_t>& values) {
  const Tensor x = device.Allocate(DType::kInt32, {static_cast<int64_t>(values.size())}, Purpose::kActivations);
  device.Upload(values.data(), x);
  return x;
}

std::vector<int32_t> Integers(Device& device, const Tensor& x) {
  std::vector<int32_t> values(x.elements());
  device.Download(x, values.data());
  return values;
}

}  // namespace

std::vector<float> Contribution(int rank, int64_t elements) {
  uint64_t state = 0x9e3779b97f4a7c15u * (rank + 1);
  std::vector<float> values(elements);
  for (float& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const int mantissa = static_cast<int>(state >> 40) - (1 << 23);  // 24 bits: sums round
    value = static_cast<float>(mantissa) * static_cast<float>(1 << (state & 7));
  }
  return values;
}

void CheckAllReduceSum(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  EXPECT_EQ(group->rank(), world.rank());
  EXPECT_EQ(group->size(), world.size());
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    // On both sides of 4 KiB, where the algorithm changes; fewer elements than ranks; several segments of 1 MiB a rank.
    for (int64_t n : {0, 1, 2, 7, 1000, 1024, 1025, 2047, 2048, 2049, 4099, (1 << 21) + 3}) {
      const Tensor x = Upload(*device, dtype, Contribution(group->rank(), n));
      group->AllReduceSum(x);
      EXPECT_EQ(Bits(*device, x), ExpectedSum(dtype, group->size(), n, 0, n)) << n << " of " << Name(dtype);
    }
  }
}

void CheckReduceScatterSum(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (int64_t n : {0, 1, 3, 511, 5000, 300001}) {
      const int64_t all = n * group->size(), begin = n * group->rank();
      const Tensor in = Upload(*device, dtype, Contribution(group->rank(), all));
      const Tensor out = device->Allocate(dtype, {n}, Purpose::kGradients);
      group->ReduceScatterSum(in, out);
      EXPECT_EQ(Bits(*device, out), ExpectedSum(dtype, group->size(), all, begin, begin + n)) << n;
    }
  }
}

void CheckAllGather(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  const int P = group->size();
  for (int64_t n : {0, 1, 5, 1024, 200003}) {
    auto part = [&](int rank) {
      std::vector<int32_t> values(n);
      std::iota(values.begin(), values.end(), rank * 1000000);
      return values;
    };
    std::vector<int32_t> expected;
    for (int r = 0; r < P; ++r) {
      const auto values = part(r);
      expected.insert(expected.end(), values.begin(), values.end());
    }
    const Tensor out = device->Allocate(DType::kInt32, {P * n}, Purpose::kActivations);
    group->AllGather(Integers(*device, part(group->rank())), out);
    EXPECT_EQ(Integers(*device, out), expected) << n;
    // From its own place in the output.
    const Tensor again = device->Allocate(DType::kInt32, {P * n}, Purpose::kActivations);
    const Tensor mine = again.Rows(group->rank() * n, (group->rank() + 1) * n);
    device->Upload(part(group->rank()).data(), mine);
    group->AllGather(mine, again);
    EXPECT_EQ(Integers(*device, again), expected) << n;
  }
  const Tensor halves = device->Allocate(DType::kBFloat16, {2 * P, 3}, Purpose::kActivations);
  group->AllGather(Upload(*device, DType::kBFloat16, std::vector<float>(6, group->rank())).View({2, 3}), halves);
  std::vector<BFloat16> gathered(halves.elements());
  device->Download(halves, gathered.data());
  for (int r = 0; r < P; ++r) EXPECT_EQ(static_cast<float>(gathered[6 * r + 5]), r);
}

void CheckAllToAll(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  const int P = group->size();
  for (int64_t n : {0, 1, 5, 200003}) {
    const auto append = [n](int from, int to, std::vector<int32_t>* values) {
      for (int64_t i = 0; i < n; ++i) values->push_back(static_cast<int32_t>((from * 100 + to) * 1000000 + i));
    };
    std::vector<int32_t> mine, expected;
    for (int r = 0; r < P; ++r) {
      append(group->rank(), r, &mine);
      append(r, group->rank(), &expected);
    }
    const Tensor out = device->Allocate(DType::kInt32, {P * n}, Purpose::kActivations);
    group->AllToAll(Integers(*device, mine), out);
    EXPECT_EQ(Integers(*device, out), expected) << n;
  }
}

void CheckBroadcast(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  for (int root = 0; root < group->size(); ++root) {
    for (int64_t n : {0, 1, 70000}) {
      const Tensor x = Upload(*device, DType::kFloat32, Contribution(group->rank(), n));
      group->Broadcast(x, root);
      const Tensor expected = Upload(*device, DType::kFloat32, Contribution(root, n));
      EXPECT_EQ(Bits(*device, x), Bits(*device, expected)) << "root " << root;
    }
  }
}

void CheckSendReceive(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  const int P = group->size(), next = (group->rank() + 1) % P, previous = (group->rank() + P - 1) % P;
  // Above 16 MiB MPI messages go in pieces.
  for (int64_t n : {0, 1, 3000, 100000, (20 << 20) / 4}) {
    auto message = [&](int from, int tag) { return std::vector<int32_t>(n, from * 100 + tag); };
    // Two messages under tag 7, one under each of 3 and 0; taken in another order than sent. With one rank: to itself.
    for (int tag : {3, 7, 0}) group->Send(Integers(*device, message(group->rank(), tag)), next, tag);
    group->Send(Integers(*device, message(group->rank(), 8)), next, 7);
    const Tensor x = device->Allocate(DType::kInt32, {n}, Purpose::kActivations);
    for (const auto& [tag, content] : {std::pair(7, 7), std::pair(0, 0), std::pair(7, 8), std::pair(3, 3)}) {
      group->Receive(x, previous, tag);
      EXPECT_EQ(Integers(*device, x), message(previous, content)) << "tag " << tag;
    }
    // A collective while messages of the user are under way.
    group->Send(Integers(*device, message(group->rank(), 1)), next, 0);
    double one = 1;
    group->AllReduceSum(std::span(&one, 1));
    EXPECT_EQ(one, P);
    group->Receive(x, previous, 0);
    EXPECT_EQ(Integers(*device, x), message(previous, 1));
    group->FinishSends();
  }
}

void CheckMessagesInOrder(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  const int P = group->size(), next = (group->rank() + 1) % P, previous = (group->rank() + P - 1) % P;
  if (P == 1) return;
  for (int64_t n : {0, 1, 3000, (20 << 20) / 4}) {
    const auto message = [&](int from, int number) { return std::vector<int32_t>(n, from * 100 + number); };
    // Around the ring one way, then the other; the tensors sent are given up at once.
    for (const auto& [to, from] : {std::pair(next, previous), std::pair(previous, next)}) {
      for (int number : {0, 1, 2}) group->Send(Integers(*device, message(group->rank(), number)), to, 7);
      for (int number : {0, 1, 2}) {
        const Tensor x = device->Allocate(DType::kInt32, {n}, Purpose::kActivations);
        group->Receive(x, from, 7);
        EXPECT_EQ(Integers(*device, x), message(from, number));
      }
    }
    // Receives that are started before the messages are sent, and before they are waited for.
    std::vector<Tensor> started;
    for (int number = 0; number < 3; ++number) {
      started.push_back(device->Allocate(DType::kInt32, {n}, Purpose::kActivations));
      group->StartReceive(started.back(), previous, 7);
    }
    for (int number : {4, 5, 6}) group->Send(Integers(*device, message(group->rank(), number)), next, 7);
    for (int number : {4, 5, 6}) {
      const Tensor& x = started[static_cast<size_t>(number - 4)];
      group->Receive(x, previous, 7);
      EXPECT_EQ(Integers(*device, x), message(previous, number));
    }
    // After FinishSends a tensor that was sent may be written.
    const Tensor sent = Integers(*device, message(group->rank(), 3));
    const Tensor received = device->Allocate(DType::kInt32, {n}, Purpose::kActivations);
    group->Send(sent, next, 7);
    group->Receive(received, previous, 7);
    group->FinishSends();
    device->Upload(message(0, 0).data(), sent);
    EXPECT_EQ(Integers(*device, received), message(previous, 3));
  }
}

void CheckFinishSend(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  const int P = group->size(), next = (group->rank() + 1) % P, previous = (group->rank() + P - 1) % P;
  if (P == 1) return;
  const auto in_use = [&] { return device->memory().current_total; };
  const int64_t before = in_use();
  const int64_t n = (1 << 20) / 4, bytes = n * 4;
  const Tensor x = device->Allocate(DType::kInt32, {n}, Purpose::kActivations);
  for (const int tag : {5, 6, 5}) group->Send(Integers(*device, std::vector<int32_t>(n, tag)), next, tag);
  for (const int tag : {5, 6, 5}) {
    group->Receive(x, previous, tag);
    EXPECT_EQ(Integers(*device, x), std::vector<int32_t>(n, tag));
  }
  group->Barrier();
  EXPECT_EQ(in_use(), before + 4 * bytes) << "delivered, but not finished";
  group->FinishSend(next, 6);
  EXPECT_EQ(in_use(), before + 3 * bytes);
  group->FinishSend(next, 5);
  EXPECT_EQ(in_use(), before + 2 * bytes);
  group->FinishSends();
  EXPECT_EQ(in_use(), before + bytes);
}

// Each used by a thread of its own, with calls that would mix if the groups did.
void CheckGroupsAtOnce(World& world) {
  const auto device = NewTestDevice(), other_device = NewTestDevice(), twin_device = NewTestDevice();
  const auto group = world.NewGroup("one", AllRanks(world), *device);
  const auto other = world.NewGroup("two", AllRanks(world), *other_device);
  const auto twin = world.NewGroup("two", AllRanks(world), *twin_device);  // same name, same ranks
  auto work = [&](Group& g, Device& d, int salt) {
    for (int i = 0; i < 40; ++i) {
      const Tensor x = Upload(d, DType::kFloat32, std::vector<float>(10 + 97 * i, 100.0f * salt + g.rank()));
      g.AllReduceSum(x);
      const float expected = 100.0f * salt * g.size() + g.size() * (g.size() - 1) / 2;
      EXPECT_EQ(Floats(d, x), std::vector<float>(10 + 97 * i, expected));
    }
  };
  std::thread thread([&] { work(*other, *other_device, 2); });
  std::thread third([&] { work(*twin, *twin_device, 3); });
  work(*group, *device, 1);
  thread.join();
  third.join();
}

void CheckSubgroups(World& world) {
  const auto device = NewTestDevice();
  std::vector<int> same_parity, lower_half;
  for (int r = 0; r < world.size(); ++r) {
    if (r % 2 == world.rank() % 2) same_parity.push_back(r);
    if ((r < world.size() / 2) == (world.rank() < world.size() / 2)) lower_half.push_back(r);
  }
  const auto parity = world.NewGroup("parity", same_parity, *device);
  const auto half = world.NewGroup("half", lower_half, *device);
  for (const auto& [group, ranks] : {std::pair(parity.get(), same_parity), std::pair(half.get(), lower_half)}) {
    EXPECT_EQ(group->size(), static_cast<int>(ranks.size()));
    EXPECT_EQ(ranks[group->rank()], world.rank());
    double sum = world.rank();
    group->AllReduceSum(std::span(&sum, 1));
    EXPECT_EQ(sum, std::accumulate(ranks.begin(), ranks.end(), 0));
  }
}

void CheckBytesSent(World& world) {
  const auto null_world = NewNullWorld(world.size(), world.rank());
  const auto device = NewTestDevice(), null_device = NewNullDevice();
  const int P = world.size();
  struct Side {
    std::unique_ptr<Group> group;
    Device& device;
  };
  Side real{world.NewGroupOfAll(*device), *device}, null{null_world->NewGroupOfAll(*null_device), *null_device};
  auto sent = [&](Side& side, const auto& body) {
    const int64_t before = side.group->bytes_sent();
    body(*side.group, side.device);
    return side.group->bytes_sent() - before;
  };
  auto compare = [&](const char* what, const auto& body) {
    const int64_t bytes = sent(real, body);
    EXPECT_EQ(sent(null, body), bytes) << what;
    EXPECT_EQ(null.group->peers(), real.group->peers()) << what;
    return bytes;
  };
  auto floats = [](Device& d, int64_t n) { return d.Allocate(DType::kFloat32, {n}, Purpose::kActivations); };
  const int64_t n = 840 * P;
  const int64_t small = compare("small", [&](Group& g, Device& d) { g.AllReduceSum(floats(d, 100)); });
  if (P <= 8) {  // more go in rounds
    EXPECT_EQ(small, 400 * (P - 1));
  }
  EXPECT_EQ(compare("large", [&](Group& g, Device& d) { g.AllReduceSum(floats(d, 4 * n)); }),
            2 * 16 * n * (P - 1) / P);
  compare("uneven", [&](Group& g, Device& d) { g.AllReduceSum(floats(d, 4 * n + 3)); });
  EXPECT_EQ(compare("scatter", [&](Group& g, Device& d) { g.ReduceScatterSum(floats(d, n), floats(d, n / P)); }),
            4 * n * (P - 1) / P);
  EXPECT_EQ(compare("gather", [&](Group& g, Device& d) { g.AllGather(floats(d, n / P), floats(d, n)); }),
            4 * n / P * (P - 1));
  EXPECT_EQ(compare("all to all", [&](Group& g, Device& d) { g.AllToAll(floats(d, n), floats(d, n)); }),
            4 * n / P * (P - 1));
  for (int root = 0; root < P; ++root) {
    compare("broadcast", [&](Group& g, Device& d) { g.Broadcast(floats(d, 33), root); });
  }
  EXPECT_EQ(compare("send",
                    [&](Group& g, Device& d) {
                      g.Send(floats(d, 9), (g.rank() + 1) % P, 0);
                      g.Receive(floats(d, 9), (g.rank() + P - 1) % P, 0);
                      g.FinishSends();
                    }),
            P == 1 ? 0 : 36);
  compare("host", [](Group& g, Device&) {
    std::vector<double> values(17);
    g.AllReduceSum(std::span<double>(values));
    g.AllReduceMax(std::span<double>(values));
    g.AllGatherStrings("hello");
    g.GatherStrings("hello");
    g.BroadcastString("hello");
    g.Barrier();
  });
  EXPECT_EQ(null.group->messages_sent(), real.group->messages_sent());
  // The memory for messages is planned too.
  const auto purpose = static_cast<size_t>(Purpose::kCommunication);
  EXPECT_EQ(null_device->memory().peak[purpose], device->memory().peak[purpose]);
}

std::span<const Check> ChecksOf(Messages messages) {
  static constexpr Check kDirect[] = {
      CheckAllReduceSum, CheckReduceScatterSum,    CheckAllGather, CheckAllToAll,     CheckBroadcast,
      CheckSendReceive,  CheckHostNumbersAndTexts, CheckAgree,     CheckGroupsAtOnce, CheckSubgroups,
      CheckFinishSend,   CheckBytesSent,
  };
  // They take no memory of the device.
  static constexpr std::span kThroughCopies = std::span(kDirect).first(std::size(kDirect) - 2);
  // NCCL's messages have no tags, and its groups are not used at once.
  static constexpr Check kNccl[] = {
      CheckAllReduceSum,    CheckReduceScatterSum,    CheckAllGather, CheckAllToAll,  CheckBroadcast,
      CheckMessagesInOrder, CheckHostNumbersAndTexts, CheckAgree,     CheckSubgroups, CheckFinishSend,
  };
  if (messages == Messages::kNccl) return kNccl;
  return messages == Messages::kDirect ? std::span<const Check>(kDirect) : kThroughCopies;
}

}  // namespace trefoil
