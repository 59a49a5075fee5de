// Sums and gathers of a PointToPointGroup: what is made in rounds (parallel/collectives/rounds.h).
#include <algorithm>

#include "parallel/collectives/binomial_tree.h"
#include "parallel/collectives/point_to_point_group.h"
#include "runtime/ops.h"

namespace trefoil {

void PointToPointGroup::Exchange(const Operation& operation, const Round& round, const std::vector<Bytes>& outgoing,
                                 const std::vector<Bytes>& incoming) {
  const int mine = round.DigitOf(rank());
  if (OnlyCounts()) {
    for (int digit = 0; digit < round.ranks; ++digit) {
      if (digit == mine || outgoing[digit].bytes + incoming[digit].bytes == 0) continue;
      CountPeer(round.PeerOf(rank(), digit));
      bytes_sent_ += outgoing[digit].bytes;
      messages_sent_ += outgoing[digit].bytes > 0;
    }
    return;
  }
  Copy(outgoing[mine], incoming[mine]);
  std::vector<std::pair<int, std::unique_ptr<Transport::Message>>> receives, sends;
  // Each rank starts with the one after it, so that no rank is everyone's first.
  for (int step = 1; step < round.ranks; ++step) {
    const int digit = (mine + round.ranks - step) % round.ranks, from = round.PeerOf(rank(), digit);
    if (incoming[digit].bytes > 0) receives.emplace_back(from, Expect(from, kCollectiveTag, incoming[digit]));
  }
  for (int step = 1; step < round.ranks; ++step) {
    const int digit = (mine + step) % round.ranks, to = round.PeerOf(rank(), digit);
    if (outgoing[digit].bytes > 0) sends.emplace_back(to, StartSend(to, kCollectiveTag, outgoing[digit]));
  }
  for (auto& [peer, message] : receives) Wait(operation, *message, peer);
  for (auto& [peer, message] : sends) Wait(operation, *message, peer);
}

void PointToPointGroup::Sum(const Tensor& parts, const Tensor& out) {
  if (out.elements() == 0) return;
  // In a null world the parts of a computing device hold nothing: its values stay as they are.
  if (transport_->moves() || !device_.computes()) SumParts(device_, parts, out);
}

void PointToPointGroup::AllReduceSum(const Tensor& x) {
  CheckSum(x);
  CheckAddressable(x);
  if (size() == 1 || x.elements() == 0) return;
  const Operation operation{"AllReduceSum", x.bytes()};
  if (GoesAlongTree(x)) return AllReduceAlongTree(operation, x);
  if (IsSmall(x)) return AllReduceSmall(operation, x);
  const int64_t segment = size() * segments_.PartElements(x.dtype());
  for (int64_t begin = 0; begin < x.elements(); begin += segment) {
    AllReduceLarge(operation, x.Range(begin, {std::min(segment, x.elements() - begin)}));
  }
}

bool PointToPointGroup::GoesAlongTree(const Tensor& x) const {
  return IsSmall(x) && x.dtype() == DType::kFloat32 && rounds_.back().ranks > segments_.direct_ranks;
}

Exchanges PointToPointGroup::ExchangesOfAllReduce(const Tensor& x) const {
  if (size() == 1) return {};
  if (GoesAlongTree(x)) {
    Exchanges up_and_down = ExchangesOfBroadcast();
    up_and_down.times = 2;
    return up_and_down;
  }
  const std::vector<Round>& rounds = SumRounds(x);
  if (IsSmall(x) && rounds.size() > 1) return {.rounds = rounds, .whole = true};
  return {.rounds = rounds, .times = 2};
}

// On the longest way from the root.
Exchanges PointToPointGroup::ExchangesOfBroadcast() const {
  if (size() <= segments_.direct_ranks) return {.rounds = one_round_};
  Exchanges down{.rounds = {}, .whole = true};
  for (const int child : ChildrenInTree(0, size())) down.rounds.push_back({.ranks = 2, .distance = child});
  return down;
}

void PointToPointGroup::AllReduceSmall(const Operation& operation, const Tensor& x) {
  const int64_t n = x.elements();
  for (const Round& round : SumRounds(x)) {
    const Tensor parts = buffer_.Parts(x.dtype(), round.ranks, n, n);
    std::vector<Bytes> outgoing(round.ranks, Elements(x, 0, n)), incoming(round.ranks);
    for (int digit = 0; digit < round.ranks; ++digit) incoming[digit] = Elements(parts, digit * n, (digit + 1) * n);
    Exchange(operation, round, outgoing, incoming);
    Sum(parts, x.View({n}));
  }
}

void PointToPointGroup::AllReduceAlongTree(const Operation& operation, const Tensor& x) {
  const int64_t n = x.elements();
  const Tensor parts = buffer_.Parts(x.dtype(), 2, n, n);
  const Bytes all = Elements(x, 0, n);
  for (const int child : ChildrenInTree(rank(), size())) {
    Copy(all, Elements(parts, 0, n));
    ReceiveNow(operation, child, Elements(parts, n, 2 * n));
    Sum(parts, x.View({n}));
  }
  if (rank() > 0) SendNow(operation, ParentInTree(rank()), all);
  SendDown(operation, /*root=*/0, all);
}

// In each round the ranks that exchange have the same range of x to add up, and divide it.
void PointToPointGroup::AllReduceLarge(const Operation& operation, const Tensor& x) {
  struct Range {
    int64_t begin, end;
    Range Piece(int i, int pieces) const {
      const int64_t n = end - begin;
      return {begin + n * i / pieces, begin + n * (i + 1) / pieces};
    }
  };
  const std::vector<Round>& rounds = SumRounds(x);
  std::vector<Range> ranges = {{0, x.elements()}};  // before each round, and after the last
  const auto pieces = [&](size_t i) {
    std::vector<Bytes> of_round;
    for (int digit = 0; digit < rounds[i].ranks; ++digit) {
      const Range piece = ranges[i].Piece(digit, rounds[i].ranks);
      of_round.push_back(Elements(x, piece.begin, piece.end));
    }
    return of_round;
  };
  int64_t most = x.elements();  // of any rank
  for (size_t i = 0; i < rounds.size(); ++i) {
    const int ranks = rounds[i].ranks;
    const Range mine = ranges[i].Piece(rounds[i].DigitOf(rank()), ranks);
    const int64_t n = mine.end - mine.begin;
    most = (most + ranks - 1) / ranks;
    const Tensor parts = buffer_.Parts(x.dtype(), ranks, n, most);
    std::vector<Bytes> incoming;
    for (int digit = 0; digit < ranks; ++digit) incoming.push_back(Elements(parts, digit * n, (digit + 1) * n));
    Exchange(operation, rounds[i], pieces(i), incoming);
    Sum(parts, x.Range(mine.begin, {n}));
    ranges.push_back(mine);
  }
  for (size_t i = rounds.size(); i-- > 0;) {
    const Bytes mine = Elements(x, ranges[i + 1].begin, ranges[i + 1].end);
    Exchange(operation, rounds[i], std::vector<Bytes>(rounds[i].ranks, mine), pieces(i));
  }
}

void PointToPointGroup::ReduceScatterSum(const Tensor& in, const Tensor& out) {
  CheckScatter(in, out);
  CheckAddressable(in);
  CheckAddressable(out);
  const int64_t n = out.elements();
  if (n == 0) return;
  if (size() == 1) {
    Copy(Elements(in, 0, n), Elements(out, 0, n));
    return;
  }
  const Operation operation{"ReduceScatterSum", in.bytes()};
  const bool direct = SumRounds(in).size() == 1;
  // Rounds take two buffers in the place of one.
  const int64_t segment = segments_.PartElements(in.dtype()) / (direct ? 1 : 2);
  for (int r = 0; r < size() && direct && OnlyCounts(); ++r) CountPeer(r);
  for (int64_t begin = 0; begin < n; begin += segment) {
    const int64_t m = std::min(segment, n - begin);
    if (!direct) {
      ReduceScatterInRounds(operation, in, begin, out.Range(begin, {m}));
      continue;
    }
    const Tensor parts = buffer_.Parts(in.dtype(), size(), m, m);
    if (OnlyCounts()) {  // a planner's groups may have hundreds of ranks, and segments as many
      bytes_sent_ += (size() - 1) * m * static_cast<int64_t>(SizeOf(in.dtype()));
      messages_sent_ += size() - 1;
    } else {
      std::vector<Bytes> outgoing(size()), incoming(size());
      for (int r = 0; r < size(); ++r) {
        outgoing[r] = Elements(in, r * n + begin, r * n + begin + m);
        incoming[r] = Elements(parts, r * m, (r + 1) * m);
      }
      Exchange(operation, one_round_.front(), outgoing, incoming);
    }
    Sum(parts, out.Range(begin, {m}));
  }
}

// Elements from `begin` on of each block, as many as `out` has. The blocks are copied once, into the order of their
// places: what is sent in a round is then contiguous.
void PointToPointGroup::ReduceScatterInRounds(const Operation& operation, const Tensor& in, int64_t begin,
                                              const Tensor& out) {
  const int64_t n = in.elements() / size(), m = out.elements();
  const Tensor both = buffer_.Parts(in.dtype(), 2 * size(), m, m);
  const Tensor blocks = both.Range(0, {size() * m});
  for (int r = 0; r < size() && !OnlyCounts(); ++r) {
    const int64_t place = PlaceByDigits(r, rounds_);
    Copy(Elements(in, r * n + begin, r * n + begin + m), Elements(blocks, place * m, (place + 1) * m));
  }
  // What this rank has to do with is at the start of `blocks`.
  for (const Round& round : rounds_) {
    const int64_t left = size() / round.Parts() * m;
    const Tensor parts = both.Range(size() * m, {round.ranks, left});
    std::vector<Bytes> outgoing, incoming;
    for (int digit = 0; digit < round.ranks; ++digit) {
      outgoing.push_back(Elements(blocks, digit * left, (digit + 1) * left));
      incoming.push_back(Elements(parts, digit * left, (digit + 1) * left));
    }
    Exchange(operation, round, outgoing, incoming);
    Sum(parts, &round == &rounds_.back() ? out : blocks.Range(0, {left}));
  }
}

void PointToPointGroup::AllGather(const Tensor& in, const Tensor& out) {
  CheckGather(in, out);
  CheckAddressable(in);
  CheckAddressable(out);
  const int64_t n = in.elements();
  if (n == 0) return;
  const Operation operation{"AllGather", out.bytes()};
  if (RoundsFor(out).size() > 1) {
    const int64_t segment = segments_.PartElements(in.dtype());
    for (int64_t begin = 0; begin < n; begin += segment) {
      GatherInRounds(operation, in.Range(begin, {std::min(segment, n - begin)}), begin, out);
    }
    return;
  }
  std::vector<Bytes> incoming(size());
  for (int r = 0; r < size(); ++r) incoming[r] = Elements(out, r * n, (r + 1) * n);
  Copy(Elements(in, 0, n), incoming[rank()]);
  // Sent from `out`: `in` may be a part of it.
  if (size() > 1) Exchange(operation, one_round_.front(), std::vector<Bytes>(size(), incoming[rank()]), incoming);
}

void PointToPointGroup::AllToAll(const Tensor& in, const Tensor& out) {
  CheckAllToAll(in, out);
  CheckAddressable(in);
  CheckAddressable(out);
  const int64_t n = in.elements() / size();
  if (n == 0) return;
  std::vector<Bytes> outgoing(size()), incoming(size());
  for (int r = 0; r < size(); ++r) {
    outgoing[r] = Elements(in, r * n, (r + 1) * n);
    incoming[r] = Elements(out, r * n, (r + 1) * n);
  }
  if (size() == 1) return Copy(outgoing.front(), incoming.front());
  Exchange({"AllToAll", in.bytes()}, one_round_.front(), outgoing, incoming);
}

// `in`: elements from `begin` on of this rank's block. Blocks are gathered in the order of their places.
void PointToPointGroup::GatherInRounds(const Operation& operation, const Tensor& in, int64_t begin, const Tensor& out) {
  const int64_t n = out.elements() / size(), m = in.elements();
  const Tensor blocks = buffer_.Parts(in.dtype(), size(), m, m);
  const auto places = [&](int64_t first, int64_t count) { return Elements(blocks, first * m, (first + count) * m); };
  int64_t first = PlaceByDigits(rank(), rounds_);  // of what this rank has
  Copy(Elements(in, 0, m), places(first, 1));
  for (auto round = rounds_.rbegin(); round != rounds_.rend(); ++round) {
    const int64_t count = size() / round->Parts();
    const Bytes mine = places(first, count);
    first -= round->DigitOf(rank()) * count;
    std::vector<Bytes> incoming;
    for (int digit = 0; digit < round->ranks; ++digit) incoming.push_back(places(first + digit * count, count));
    Exchange(operation, *round, std::vector<Bytes>(round->ranks, mine), incoming);
  }
  for (int r = 0; r < size() && !OnlyCounts(); ++r) {
    if (r != rank() && !transport_->moves()) continue;
    Copy(places(PlaceByDigits(r, rounds_), 1), Elements(out, r * n + begin, r * n + begin + m));
  }
}

}  // namespace trefoil
