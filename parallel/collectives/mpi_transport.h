// Messages of one group by MPI, over a communicator of the group's own, and MPI's collectives over it, which never mix
// with its messages.
//
// Nothing blocks: what is started is asked for again and again whether it is done, so that a rank that never comes ends
// the job with its name, or its group's.
//
// Of collectives (RankSums::kFastest): float32 is added by MPI_SUM; bf16, which MPI does not know, by an operation of
// ours that adds two numbers in float32 and rounds their sum to bf16, so once for each addition. What has more elements
// than a count of MPI can say goes in pieces, and is then scattered by a reduction to each rank.
//
// Private to this folder.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>

#include "parallel/collectives/group.h"
#include "parallel/collectives/mpi_progress.h"
#include "parallel/collectives/transport.h"

namespace trefoil {

class MpiTransport : public LibraryTransport {
 public:
  // Takes over the communicator. `progress` outlives it. largest_count: elements of one collective, at most.
  MpiTransport(const Membership& membership, MPI_Comm comm, MpiProgress& progress, int largest_count);
  ~MpiTransport() override;

  std::unique_ptr<Message> Send(int to, int tag, const void* data, int64_t bytes) override;
  std::unique_ptr<Message> Receive(int from, int tag, void* data, int64_t bytes) override;
  bool Wait(Message& message, Clock::time_point deadline) override;
  bool moves() const override { return true; }
  [[noreturn]] void Abort(const std::string& message) override;

  std::unique_ptr<Message> AllReduceSum(const Tensor& x) override;
  std::unique_ptr<Message> ReduceScatterSum(const Tensor& in, const Tensor& out) override;
  std::unique_ptr<Message> AllGather(const Tensor& x) override;
  std::unique_ptr<Message> Broadcast(const Tensor& x, int root) override;

 private:
  class MpiMessage;
  static constexpr int kEverybody = -1;  // in the place of a peer: the others of a collective

  // Adds the requests of start_piece(begin, count, &request), which together are of [0, n) in pieces of at most
  // `largest`: one of nothing where n is 0.
  template <typename StartPiece>
  void Start(MpiMessage& message, const char* call, int64_t n, int64_t largest, const StartPiece& start_piece);
  MPI_Op SumOf(DType dtype) const { return dtype == DType::kBFloat16 ? bfloat16_sum_ : MPI_SUM; }
  bool IsFar(int peer) const;
  void Check(int error, const char* call, int peer);

  const Membership membership_;
  MPI_Comm comm_;
  MpiProgress& progress_;
  const int largest_count_;
  int largest_tag_ = 0;
  MPI_Op bfloat16_sum_;
};

}  // namespace trefoil
