#include "parallel/same_on_ranks.h"

#include <cstdint>
#include <optional>

#include "parallel/collectives/joined_texts.h"
#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

std::string Bytes(uint32_t crc) { return std::string(reinterpret_cast<const char*>(&crc), sizeof(crc)); }

std::string Said(const std::string& value) { return value.empty() ? "nothing" : value; }

}  // namespace

absl::Status CheckSameOnRanks(Group& all, const std::vector<RankFact>& facts, const std::string& remedy) {
  std::vector<std::string> texts;  // names and values in turn
  for (const RankFact& fact : facts) {
    texts.push_back(fact.name);
    texts.push_back(fact.value);
  }
  const std::string own = JoinTexts(texts);
  const std::vector<std::string> checksums = all.AllGatherStrings(facts.empty() ? "" : Bytes(Crc32c(own)));
  std::optional<int> other;
  for (int rank = all.size() - 1; rank > 0; --rank) {
    const std::string& checksum = checksums[static_cast<size_t>(rank)];
    if (!checksum.empty() && checksum != checksums[0]) other = rank;
  }
  if (!other) return absl::OkStatus();
  const bool speaks = all.rank() == 0 || all.rank() == *other;
  const std::vector<std::string> gathered = all.AllGatherStrings(speaks ? own : "");
  const std::vector<std::string> here = SplitTexts(gathered[0]), there = SplitTexts(gathered[static_cast<size_t>(*other)]);
  // A rank with fewer facts has nothing for the others.
  const auto at = [](const std::vector<std::string>& list, size_t i) { return i < list.size() ? list[i] : ""; };
  size_t i = 0;
  while (at(here, i) == at(there, i) && at(here, i + 1) == at(there, i + 1)) i += 2;
  // A list that has ended has nothing under the other's name.
  const bool ended = i >= here.size() || i >= there.size();
  const std::string name = i < here.size() ? here[i] : there[i];
  const auto said = [&](const std::vector<std::string>& list) {
    const std::string value = at(list, i + 1);
    return ended || at(list, i) == name ? Said(value) : at(list, i) + " " + Said(value);
  };
  const auto has = [&](int rank, const std::vector<std::string>& list) {
    return all.membership().NameOf(rank) + " has " + said(list);
  };
  return absl::FailedPreconditionError(name + ": " + has(*other, there) + ", " + has(0, here) +
                                       "; every rank must have the same" + (remedy.empty() ? "" : "; " + remedy));
}

}  // namespace trefoil
