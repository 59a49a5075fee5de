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

std::vector<std::string> Group::AllGatherStrings(const std::string& text) {
  return SplitTexts(BroadcastString(JoinTexts(GatherStrings(text))));
}

void Group::StartReceive(const Tensor&, int from, int tag) {
  LOG(FATAL) << "group " << name() << ": a receive from rank " << from << " with tag " << tag
             << " is started early, which this group cannot do";
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
