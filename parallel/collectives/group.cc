#include "parallel/collectives/group.h"

#include <algorithm>
#include <cstdlib>

#include "parallel/collectives/joined_texts.h"

namespace trefoil {
namespace {

// An error travels as "CODE MESSAGE", CODE in decimal; OK as nothing.
std::string Encode(const absl::Status& status) {
  if (status.ok()) return "";
  return std::to_string(static_cast<int>(status.code())) + " " + std::string(status.message());
}

absl::Status Decode(const std::string& text, const std::string& whose) {
  return absl::Status(static_cast<absl::StatusCode>(std::atoi(text.c_str())), whose + text.substr(text.find(' ') + 1));
}

}  // namespace

std::string Membership::NameOf(int place) const {
  const int rank = ranks[static_cast<size_t>(place)];
  return "rank " + std::to_string(rank) + " on " + hosts->of(rank);
}

void Group::CheckSum(const Tensor& x) const {
  CHECK(x.dtype() == DType::kFloat32 || x.dtype() == DType::kBFloat16) << "sums are of float32 or bfloat16";
}

void Group::CheckScatter(const Tensor& in, const Tensor& out) const {
  CheckSum(in);
  CHECK(in.dtype() == out.dtype());
  CHECK_EQ(in.elements(), out.elements() * size()) << in.shape() << " to " << out.shape() << " over " << size()
                                                   << " ranks";
}

void Group::CheckGather(const Tensor& in, const Tensor& out) const {
  CHECK(in.dtype() == out.dtype());
  CHECK_EQ(in.elements() * size(), out.elements()) << in.shape() << " to " << out.shape() << " over " << size()
                                                   << " ranks";
}

void Group::CheckAllToAll(const Tensor& in, const Tensor& out) const {
  CHECK(in.dtype() == out.dtype() && in.elements() == out.elements()) << in.shape() << " to " << out.shape();
  CHECK_EQ(in.elements() % size(), 0) << in.shape() << " in parts for " << size() << " ranks";
}

void Group::CheckRoot(int root) const {
  CHECK(0 <= root && root < size()) << "root " << root << " of " << size() << " ranks";
}

void Group::CountRing(int64_t bytes, int times) {
  bytes_sent_ += times * (bytes * (size() - 1) / size());
  messages_sent_ += times * (size() - 1);
  CountPeer((rank() + 1) % size());
  CountPeer((rank() + size() - 1) % size());
}

std::vector<std::string> Group::AllGatherStrings(const std::string& text) {
  return SplitTexts(BroadcastString(JoinTexts(GatherStrings(text))));
}

void Group::Barrier() {
  double nothing = 0;
  AllReduceMax(std::span(&nothing, 1));
}

absl::Status Group::Agree(const absl::Status& status) {
  double failed = status.ok() ? 0 : 1;
  AllReduceMax(std::span(&failed, 1));
  if (failed == 0) return absl::OkStatus();
  const std::vector<std::string> errors = AllGatherStrings(Encode(status));
  const auto first = std::find_if(errors.begin(), errors.end(), [](const std::string& error) { return !error.empty(); });
  const bool everyones = std::all_of(errors.begin(), errors.end(), [&](const std::string& e) { return e == *first; });
  const int place = static_cast<int>(first - errors.begin());
  const bool for_all = place == 0 && (absl::IsInvalidArgument(Decode(*first, "")) ||
                                      membership_.hosts->RanksByHost().size() == 1);
  return Decode(*first, everyones || for_all ? "" : membership_.NameOf(place) + ": ");
}

}  // namespace trefoil
