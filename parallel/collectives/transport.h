// Bytes among the ranks of one group: all that an implementation of Group has to supply. The algorithms above it are
// written once (parallel/collectives/point_to_point_group.h); MPI, threads and the null world differ only here.
//
// Private to this folder.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/tensor.h"

namespace trefoil {

class Transport {
 public:
  using Clock = std::chrono::steady_clock;

  // A message on its way. Its memory must stay until Done() has returned true.
  class Message {
   public:
    virtual ~Message() = default;
    virtual bool Done() = 0;
    // The caller does other things before it asks again: the message should move meanwhile.
    virtual void MoveAlone() {}
  };

  virtual ~Transport() = default;
  // Both return at once. Messages between two ranks with one tag are received in order of sending, into receives in
  // order of their start; both ends name the same number of bytes (0 allowed). Ranks are the group's; a rank may send
  // to itself.
  virtual std::unique_ptr<Message> Send(int to, int tag, const void* data, int64_t bytes) = 0;
  virtual std::unique_ptr<Message> Receive(int from, int tag, void* data, int64_t bytes) = 0;
  // Waits until the message is done; false if it is not by `deadline`.
  virtual bool Wait(Message& message, Clock::time_point deadline) = 0;
  // Whether received bytes have values; false only for the null world.
  virtual bool moves() const = 0;
  // Logs the message and ends the whole job.
  [[noreturn]] virtual void Abort(const std::string& message) = 0;
};

// One whose library has collectives of its own, for RankSums::kFastest. They do what those of Group do, for at least
// one element and more than one rank, and return at once; tensors must stay until the message is done.
class LibraryTransport : public Transport {
 public:
  virtual std::unique_ptr<Message> AllReduceSum(const Tensor& x) = 0;
  virtual std::unique_ptr<Message> ReduceScatterSum(const Tensor& in, const Tensor& out) = 0;
  // This rank's part is in its place in x.
  virtual std::unique_ptr<Message> AllGather(const Tensor& x) = 0;
  virtual std::unique_ptr<Message> Broadcast(const Tensor& x, int root) = 0;
};

// Place of world rank `rank` in a new group's `ranks`; CHECKs that they ascend and contain it.
int PlaceInGroup(const std::string& group, const std::vector<int>& ranks, int rank);

}  // namespace trefoil
