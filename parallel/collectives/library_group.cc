#include "parallel/collectives/library_group.h"

#include <utility>

namespace trefoil {
namespace {

constexpr int kEverybody = -1;

}  // namespace

LibraryGroup::LibraryGroup(Membership membership, Device& device, std::unique_ptr<LibraryTransport> transport)
    : LibraryGroup(std::move(membership), device, transport.release()) {}

LibraryGroup::LibraryGroup(Membership membership, Device& device, LibraryTransport* library)
    : PointToPointGroup(std::move(membership), device, std::unique_ptr<Transport>(library)), library_(*library) {}

void LibraryGroup::AllReduceSum(const Tensor& x) {
  CheckSum(x);
  CheckAddressable(x);
  if (size() == 1 || x.elements() == 0) return;
  CountRing(x.bytes(), 2);
  Wait({"AllReduceSum", x.bytes()}, *library_.AllReduceSum(x), kEverybody);
}

void LibraryGroup::ReduceScatterSum(const Tensor& in, const Tensor& out) {
  CheckScatter(in, out);
  CheckAddressable(in);
  CheckAddressable(out);
  if (out.elements() == 0) return;
  if (size() == 1) return Copy(Elements(in, 0, in.elements()), Elements(out, 0, out.elements()));
  CountRing(in.bytes(), 1);
  Wait({"ReduceScatterSum", in.bytes()}, *library_.ReduceScatterSum(in, out), kEverybody);
}

void LibraryGroup::AllGather(const Tensor& in, const Tensor& out) {
  CheckGather(in, out);
  CheckAddressable(in);
  CheckAddressable(out);
  const int64_t n = in.elements();
  if (n == 0) return;
  Copy(Elements(in, 0, n), Elements(out, rank() * n, (rank() + 1) * n));
  if (size() == 1) return;
  CountRing(out.bytes(), 1);
  Wait({"AllGather", out.bytes()}, *library_.AllGather(out), kEverybody);
}

void LibraryGroup::Broadcast(const Tensor& x, int root) {
  CheckRoot(root);
  CheckAddressable(x);
  if (size() == 1 || x.elements() == 0) return;
  CountRing(x.bytes(), 1);
  Wait({"Broadcast", x.bytes()}, *library_.Broadcast(x, root), kEverybody);
}

}  // namespace trefoil
