// A Group out of messages between pairs of ranks. P ranks, n bytes:
//
//   AllReduceSum      up to 4 KiB: in each round every rank sends all n bytes to its peers and adds up what it got.
//                     Above: a reduce-scatter, then an all-gather, segment by segment; sends 2 n (P-1)/P, as a ring
//                     does, in fewer messages.
//   ReduceScatterSum  in each round a rank sends its peers what is theirs to add on; sends n (P-1)/P of the input's n.
//   AllGather         in each round a rank sends its peers all it has; sends n (P-1) for a part of n.
//   AllToAll          one round: every rank sends all others theirs; sends n (P-1)/P.
//   Broadcast         a binomial tree (parallel/collectives/binomial_tree.h); the root sends n ceil(log2 P).
//   host numbers      up the tree to rank 0, joined, not added: rank 0 adds them neighbours first; the sum down the
//                     tree. Maxima, which no order changes, are made on the way. P-1 messages each way in all.
//   texts             the same way up or down; before each message another one with its length. Of texts that each go
//                     to one rank, in round i to the rank 2^i behind, those whose way has bit i.
//
// Rounds (parallel/collectives/rounds.h): up to 8 ranks one, in which all exchange directly, and up to 32 for parts of
// 512 KiB; else log2 P where P is a power of two. A small sum whose last round would be of more than 8 ranks goes along
// the tree instead, up and down. Additions are made by the op SumParts over parts laid out in rank order, whose order
// of addition all these ways keep: they give the same bits. It rounds bfloat16 once, at the end: partial sums in it
// would not have those bits, so its sums are made in one round whatever the ranks. Segments, 4 KiB, 8 ranks, 512 KiB
// and the memory for the parts: parallel/collectives/sum_buffer.h.
//
// Private to this folder.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "parallel/collectives/group.h"
#include "parallel/collectives/rounds.h"
#include "parallel/collectives/sum_buffer.h"
#include "parallel/collectives/transport.h"

namespace trefoil {

class PointToPointGroup : public Group {
 public:
  // Of sums, SegmentsOfMessages unless said otherwise.
  PointToPointGroup(Membership membership, Device& device, std::unique_ptr<Transport> transport,
                    std::optional<SumSegments> segments = std::nullopt);
  // Waits for what was sent.
  ~PointToPointGroup() override;

  void AllReduceSum(const Tensor& x) override;
  void ReduceScatterSum(const Tensor& in, const Tensor& out) override;
  void AllGather(const Tensor& in, const Tensor& out) override;
  void AllToAll(const Tensor& in, const Tensor& out) override;
  void Broadcast(const Tensor& x, int root) override;
  void Send(const Tensor& x, int to, int tag) override;
  void Receive(const Tensor& x, int from, int tag) override;
  bool receives_early() const override { return true; }
  void StartReceive(const Tensor& x, int from, int tag) override;
  void FinishSend(int to, int tag) override;
  void FinishSends() override;
  std::vector<double> SumAndGather(std::span<double> values, std::span<const double> own) override;
  void AllReduceMax(std::span<double> values) override;
  std::vector<std::string> GatherStrings(const std::string& text) override;
  std::string ReduceStrings(const std::string& text, const JoinOfTexts& join) override;
  std::vector<RankText> ExchangeStrings(std::vector<RankText> texts) override;
  std::string BroadcastString(const std::string& text) override;

 protected:
  // For who times what is called. Of one round small sums count as large ones, and broadcasts as gathers.
  Exchanges ExchangesOfAllReduce(const Tensor& x) const;
  Exchanges ExchangesOfReduceScatter(const Tensor& in) const { return {.rounds = SumRounds(in)}; }
  Exchanges ExchangesOfAllGather(const Tensor& out) const { return {.rounds = RoundsFor(out)}; }
  Exchanges ExchangesOfBroadcast() const;
  // All exchange with all.
  const std::vector<Round>& one_round() const { return one_round_; }

  struct Bytes {
    void* data = nullptr;
    int64_t bytes = 0;
  };
  // What this rank is doing, for the message of a time-out.
  struct Operation {
    const char* name;
    int64_t bytes;
    int tag = -1;  // of a Send or Receive
  };
  // peer: the rank that is waited for; -1: all others.
  void Wait(const Operation& operation, Transport::Message& message, int peer);
  void CheckAddressable(const Tensor& x) const;
  // The bytes of elements [begin, end) of x.
  static Bytes Elements(const Tensor& x, int64_t begin, int64_t end);
  void Copy(Bytes from, Bytes to) const;

 private:
  // Collectives are called in one order everywhere, so messages of one pair of ranks cannot be mistaken under one tag.
  static constexpr int kCollectiveTag = 0;
  // A Send that is not finished, or a Receive that is started.
  struct Pending {
    Tensor x;  // kept alive
    std::unique_ptr<Transport::Message> message;
    int peer, tag;
  };
  Pending& PostReceive(const Tensor& x, int from, int tag);
  static std::deque<Pending>::iterator Find(std::deque<Pending>& messages, int peer, int tag);

  // Sends outgoing[i] to and receives incoming[i] from rank i of the round (nothing where it has no bytes), copies this
  // rank's own, and waits for all of it.
  void Exchange(const Operation& operation, const Round& round, const std::vector<Bytes>& outgoing,
                const std::vector<Bytes>& incoming);
  // Every message is made by these two, which count it.
  std::unique_ptr<Transport::Message> StartSend(int to, int tag, Bytes bytes);
  std::unique_ptr<Transport::Message> Expect(int from, int tag, Bytes bytes);
  // Nothing to move, and nowhere to move it.
  bool OnlyCounts() const { return !transport_->moves() && !device_.computes(); }

  // Those in which all ranks' parts of x are gathered, or scattered; and the same with sums: partial sums of bfloat16
  // do not travel.
  const std::vector<Round>& RoundsFor(const Tensor& x) const {
    return std::min(x.bytes() / size(), segments_.part_bytes) < segments_.direct_bytes ? rounds_ : one_round_;
  }
  const std::vector<Round>& SumRounds(const Tensor& x) const {
    return x.dtype() == DType::kFloat32 ? RoundsFor(x) : one_round_;
  }
  // out = sum over r of parts[r], unless there is nothing to add.
  void Sum(const Tensor& parts, const Tensor& out);
  bool IsSmall(const Tensor& x) const { return x.bytes() <= segments_.small_bytes; }
  // A small sum whose last round would be of too many ranks.
  bool GoesAlongTree(const Tensor& x) const;
  void AllReduceSmall(const Operation& operation, const Tensor& x);
  void AllReduceAlongTree(const Operation& operation, const Tensor& x);
  void AllReduceLarge(const Operation& operation, const Tensor& segment);
  void ReduceScatterInRounds(const Operation& operation, const Tensor& in, int64_t begin, const Tensor& out);
  void GatherInRounds(const Operation& operation, const Tensor& in, int64_t begin, const Tensor& out);
  // One message of a collective, start to end; nothing where it has no bytes.
  void SendNow(const Operation& operation, int to, Bytes bytes);
  void ReceiveNow(const Operation& operation, int from, Bytes bytes);
  // A message of unknown length, behind one with its length.
  void SendText(const char* operation, int to, const std::string& text);
  std::string ReceiveText(const char* operation, int from);
  // From the root to every rank along the tree.
  void SendDown(const Operation& operation, int root, Bytes bytes);

  Device& device_;
  const std::unique_ptr<Transport> transport_;
  const SumSegments segments_;
  const std::vector<Round> one_round_, rounds_;
  SumBuffer buffer_;
  std::deque<Pending> sends_, receives_;
};

}  // namespace trefoil
