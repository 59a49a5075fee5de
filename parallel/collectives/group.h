// Messages among the ranks of one group.
//
//   group.AllReduceSum(x);                    // every rank: x = sum over ranks
//   group.ReduceScatterSum(x, mine);          // rank r: mine = sum over ranks of x.Rows(r-th part)
//   group.AllGather(mine, x);                 // every rank: x = all parts, in rank order
//
// Every rank of the group must make the same calls in the same order with the same sizes (Send and Receive excepted).
// A call returns when the result is there. Sums are those of RankSums::kOrdered unless the group was made otherwise.
//
// Failure: a broken connection, or a rank that has not come within the time-out (parallel/collectives/patience.h), ends
// the program with this rank, the operation, the group and the missing rank named, both ranks with their hosts; nothing
// is returned.
// Threads: one thread at a time per Group; different groups may be used by different threads at once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/collectives/hosts.h"
#include "parallel/collectives/patience.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace trefoil {

// How a group adds up, gathers and broadcasts tensors.
enum class RankSums {
  // Neighbours first, in float32 for bf16, by the op SumParts: the result is the same on every rank, on every run, and
  // for every implementation (MPI, NCCL, threads).
  kOrdered,
  // By the library's own collectives (MPI's, NCCL's), which choose an order of addition by sizes and ranks, and whose
  // partial sums in bf16 are rounded. Other layouts, and perhaps other runs, give other bits. Threads have no such
  // library.
  kFastest,
};

// Who the ranks of a group are.
struct Membership {
  std::string group;                   // its name, "tensor", "data" ...: for messages
  std::vector<int> ranks;              // by their numbers in the world, ascending
  int place = 0;                       // this rank's, in `ranks`
  std::shared_ptr<const Hosts> hosts;  // the world's
  std::shared_ptr<Patience> patience;  // the world's

  // "rank 3 on node7": the member at `place`, by its number in the world.
  std::string NameOf(int place) const;
};

class Group {
 public:
  explicit Group(Membership membership) : membership_(std::move(membership)), is_peer_(membership_.ranks.size()) {}
  virtual ~Group() = default;
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  const std::string& name() const { return membership_.group; }
  int rank() const { return membership_.place; }  // within the group
  int size() const { return static_cast<int>(membership_.ranks.size()); }
  const Membership& membership() const { return membership_; }
  // What this rank has sent so far. Messages are counted by MPI, threads and null worlds; those of the libraries' own
  // collectives everywhere, as a ring's.
  int64_t bytes_sent() const { return bytes_sent_; }
  int64_t messages_sent() const { return messages_sent_; }
  // How many others this rank has sent to or received from so far, its connections; counted as messages are.
  int peers() const { return static_cast<int>(std::count(is_peer_.begin(), is_peer_.end(), true)); }

  // x: float32 or bfloat16, any shape; in place.
  virtual void AllReduceSum(const Tensor& x) = 0;
  // in: [size * n, ...] with out: [n, ...], same dtype; rank r gets the sum of the r-th parts. `out` may be this rank's
  // part of `in`, whose other parts are then undefined.
  virtual void ReduceScatterSum(const Tensor& in, const Tensor& out) = 0;
  // in: [n, ...], out: [size * n, ...], any dtype. `in` may be this rank's part of `out`.
  virtual void AllGather(const Tensor& in, const Tensor& out) = 0;
  // in, out: [size * n, ...], two tensors of any one dtype; rank r's s-th part of `in` is rank s's r-th part of `out`.
  virtual void AllToAll(const Tensor& in, const Tensor& out) = 0;
  virtual void Broadcast(const Tensor& x, int root) = 0;

  // Point to point. Send returns at once and keeps x, whose elements must not be written to after, until FinishSend or
  // FinishSends gives it up: not when it happens to be delivered, so that memory does not depend on timing. Receive
  // waits. Messages from one rank to another with one tag arrive in order of sending. Those of different tags may
  // overtake each other if they are of different lanes, a tag's being tag % kLanes; in a lane all must be received in
  // order of sending, since NCCL's messages travel without tags.
  static constexpr int kLanes = 2;
  virtual void Send(const Tensor& x, int to, int tag) = 0;
  virtual void Receive(const Tensor& x, int from, int tag) = 0;
  // Whether a receive that is started long before it is waited for is worth the tensor that it keeps: a stage of a
  // pipeline takes one for each of its neighbours (parallel/pipeline/pipeline.h).
  virtual bool receives_early() const { return false; }
  // Lets the message come into x that Receive(x, from, tag) will wait for, while this rank does other things; until
  // then x belongs to the group. Receives of one rank and lane are started in their order. Groups whose messages go
  // through copies do nothing here.
  virtual void StartReceive(const Tensor&, int /*from*/, int /*tag*/) {}
  // Waits until the earliest unfinished message to rank `to` with this tag, of which there must be one, is delivered,
  // and gives up its tensor. Who waits here must know that the receiver gets so far without this rank.
  virtual void FinishSend(int to, int tag) = 0;
  // The same for all that was sent.
  virtual void FinishSends() = 0;

  // After Device::Recording::Replay of work that has calls of this group in it: they count as made from here on where an
  // implementation watches for calls that never end.
  virtual void Replayed() {}

  // Numbers and text on the host, along a tree whose root is rank 0 (parallel/collectives/binomial_tree.h): a rank
  // sends to and receives from at most log2 of the size others. Sums are added neighbours first, as those of tensors.
  void AllReduceSum(std::span<double> values) { SumAndGather(values, {}); }
  // The same, and in the same messages rank 0 gets every rank's `own`, which has one length everywhere: all of them, in
  // rank order. The others get nothing.
  virtual std::vector<double> SumAndGather(std::span<double> values, std::span<const double> own) = 0;
  virtual void AllReduceMax(std::span<double> values) = 0;
  // Rank 0 gets every rank's text, in rank order; the others get nothing.
  virtual std::vector<std::string> GatherStrings(const std::string& text) = 0;
  // Rank 0 gets what all ranks' texts make, joined on the way: join(of some ranks in a row, of the ranks behind them).
  // What travels is no longer than what has been made, where a gather's texts grow with the ranks. The others get nothing.
  using JoinOfTexts = std::function<std::string(const std::string& lower, const std::string& upper)>;
  virtual std::string ReduceStrings(const std::string& text, const JoinOfTexts& join) = 0;
  // Every text goes to its `rank`; a rank gets those addressed to it with the ranks that they came from, ascending, those
  // of one rank in their order. A rank sends one message, behind one with its length, in each of ceil(log2 of the size)
  // rounds, to the rank 1, 2, 4 ... behind it, and passes on what is not for itself: a text travels that often at most.
  struct RankText {
    int rank = 0;
    std::string text;
  };
  virtual std::vector<RankText> ExchangeStrings(std::vector<RankText> texts) = 0;
  // Every rank gets rank 0's text.
  virtual std::string BroadcastString(const std::string& text) = 0;
  // Every rank gets every rank's text, in rank order. Texts of which only rank 0 needs all are for GatherStrings.
  std::vector<std::string> AllGatherStrings(const std::string& text);
  void Barrier();

  // OK if every rank passed OK; otherwise every rank gets the error of the lowest rank that failed, with "rank 3 on
  // node7: " before its message. Some errors are nobody's in particular and get no name: one that every rank has in the
  // same words, and what rank 0 finds, which does for all what is done once, where there is but one host or it is what the
  // user wrote (kInvalidArgument). While all pass OK, a rank sends and gets a number.
  absl::Status Agree(const absl::Status& status);

 protected:
  void CountPeer(int peer) { is_peer_[static_cast<size_t>(peer)] = peer != rank(); }
  // What a call asks of its tensors, CHECKed.
  void CheckSum(const Tensor& x) const;
  void CheckScatter(const Tensor& in, const Tensor& out) const;
  void CheckGather(const Tensor& in, const Tensor& out) const;
  void CheckAllToAll(const Tensor& in, const Tensor& out) const;
  void CheckRoot(int root) const;
  // Counts what a rank sends when `bytes` go round a ring of all P ranks, in the mean of the ranks: (P-1)/P of them in
  // P-1 messages each time. For a library's own collectives, whose way it does not tell: an all-reduce goes round
  // twice, the others once.
  void CountRing(int64_t bytes, int times);

  int64_t bytes_sent_ = 0;
  int64_t messages_sent_ = 0;

 private:
  const Membership membership_;
  std::vector<bool> is_peer_;
};

// While it lives, the job is in `phase` for this rank, in all groups of the group's world.
class During {
 public:
  During(const Group& group, Phase phase)
      : patience_(*group.membership().patience), before_(patience_.phase()) {
    patience_.set_phase(phase);
  }
  ~During() { patience_.set_phase(before_); }
  During(const During&) = delete;
  During& operator=(const During&) = delete;

 private:
  Patience& patience_;
  const Phase before_;
};

}  // namespace trefoil
