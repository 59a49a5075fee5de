// Messages among the ranks of one group.
//
//   group.AllReduceSum(x);                    // every rank: x = sum over ranks
//   group.ReduceScatterSum(x, mine);          // rank r: mine = sum over ranks of x.Rows(r-th part)
//   group.AllGather(mine, x);                 // every rank: x = all parts, in rank order
//
// Every rank of the group must make the same calls in the same order with the same sizes (Send and Receive excepted).
// A call returns when the result is there. Sums are added in rank order, in float32 for bf16, by the op SumParts: the
// result is the same on every rank, on every run, and for every implementation (MPI, threads).
//
// Failure: a broken connection, or a rank that has not come within the time-out, ends the program with this rank, the
// operation, the group and the missing rank named; nothing is returned.
// Threads: one thread at a time per Group; different groups may be used by different threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/status.h"

namespace trefoil {

class Group {
 public:
  Group(std::string name, int rank, int size) : name_(std::move(name)), rank_(rank), size_(size) {}
  virtual ~Group() = default;
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  const std::string& name() const { return name_; }  // "tensor", "data" ...: for messages
  int rank() const { return rank_; }                 // within the group
  int size() const { return size_; }
  // Bytes that this rank has sent so far.
  int64_t bytes_sent() const { return bytes_sent_; }

  // x: float32 or bfloat16, any shape; in place.
  virtual void AllReduceSum(const Tensor& x) = 0;
  // in: [size * n, ...] with out: [n, ...], same dtype; rank r gets the sum of the r-th parts.
  virtual void ReduceScatterSum(const Tensor& in, const Tensor& out) = 0;
  // in: [n, ...], out: [size * n, ...], any dtype. `in` may be this rank's part of `out`.
  virtual void AllGather(const Tensor& in, const Tensor& out) = 0;
  virtual void Broadcast(const Tensor& x, int root) = 0;

  // Point to point. Send returns at once and keeps x, whose elements must not be written to after, until FinishSend or
  // FinishSends gives it up: not when it happens to be delivered, so that memory does not depend on timing. Receive
  // waits. Messages between two ranks with one tag arrive in order of sending.
  virtual void Send(const Tensor& x, int to, int tag) = 0;
  virtual void Receive(const Tensor& x, int from, int tag) = 0;
  // Waits until the earliest unfinished message to rank `to` with this tag, of which there must be one, is delivered,
  // and gives up its tensor. Who waits here must know that the receiver gets so far without this rank.
  virtual void FinishSend(int to, int tag) = 0;
  // The same for all that was sent.
  virtual void FinishSends() = 0;

  // After Device::Recording::Replay of work that has calls of this group in it: they count as made from here on where an
  // implementation watches for calls that never end.
  virtual void Replayed() {}

  // Numbers and text on the host. Sums are in rank order.
  virtual void AllReduceSum(std::span<double> values) = 0;
  virtual void AllReduceMax(std::span<double> values) = 0;
  // Every rank gets every rank's text, in rank order.
  virtual std::vector<std::string> AllGatherStrings(const std::string& text) = 0;
  void Barrier() { (void)AllGatherStrings(""); }

  // OK if every rank passed OK; otherwise every rank gets the error of the lowest rank that failed, unchanged.
  absl::Status Agree(const absl::Status& status);

 protected:
  int64_t bytes_sent_ = 0;

 private:
  const std::string name_;
  const int rank_, size_;
};

}  // namespace trefoil
