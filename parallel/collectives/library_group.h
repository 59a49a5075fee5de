// A Group of RankSums::kFastest: collectives of tensors are the library's own, behind a transport that has some;
// messages of pairs, host numbers and texts are those of PointToPointGroup.
//
// Takes no buffer for sums. What it sends is counted as what goes round a ring (Group::CountRing).
//
// Private to this folder.
#pragma once

#include <memory>

#include "parallel/collectives/point_to_point_group.h"

namespace trefoil {

class LibraryGroup : public PointToPointGroup {
 public:
  LibraryGroup(Membership membership, Device& device, std::unique_ptr<LibraryTransport> transport);

  using PointToPointGroup::AllReduceSum;
  void AllReduceSum(const Tensor& x) override;
  void ReduceScatterSum(const Tensor& in, const Tensor& out) override;
  void AllGather(const Tensor& in, const Tensor& out) override;
  void Broadcast(const Tensor& x, int root) override;

 protected:
  // As if all exchanged with all at once: how a library does it, it does not tell.
  Exchanges ExchangesOfAllReduce(const Tensor&) const { return {.rounds = one_round(), .times = 2}; }
  Exchanges ExchangesOfReduceScatter(const Tensor&) const { return {.rounds = one_round()}; }
  Exchanges ExchangesOfAllGather(const Tensor&) const { return {.rounds = one_round()}; }
  Exchanges ExchangesOfBroadcast() const { return {.rounds = one_round()}; }

 private:
  // Takes over the transport.
  LibraryGroup(Membership membership, Device& device, LibraryTransport* library);

  LibraryTransport& library_;  // the base's transport
};

}  // namespace trefoil
