#include "parallel/same_on_ranks.h"

#include <unistd.h>

#include <cstdint>
#include <optional>

#include "runtime/crc32c.h"

namespace trefoil {
namespace {

// A list of texts as one: SIZE ':' TEXT for each. Example: {"ab", ""} is "2:ab0:".
std::string Packed(const std::vector<std::string>& texts) {
  std::string packed;
  for (const std::string& text : texts) packed += std::to_string(text.size()) + ":" + text;
  return packed;
}

std::vector<std::string> Unpacked(const std::string& packed) {
  std::vector<std::string> texts;
  for (size_t at = 0; at < packed.size();) {
    const size_t colon = packed.find(':', at);
    const size_t size = std::stoul(packed.substr(at, colon - at));
    texts.push_back(packed.substr(colon + 1, size));
    at = colon + 1 + size;
  }
  return texts;
}

std::string Bytes(uint32_t crc) { return std::string(reinterpret_cast<const char*>(&crc), sizeof(crc)); }

std::string Said(const std::string& value) { return value.empty() ? "nothing" : value; }

}  // namespace

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

absl::Status CheckSameOnRanks(Group& all, const std::vector<RankFact>& facts, const std::string& remedy) {
  std::vector<std::string> texts = {HostName()};
  for (const RankFact& fact : facts) {
    texts.push_back(fact.name);
    texts.push_back(fact.value);
  }
  const std::string own = Packed({texts.begin() + 1, texts.end()});
  const std::vector<std::string> checksums = all.AllGatherStrings(Bytes(Crc32c(own)));
  std::optional<int> other;
  for (int rank = all.size() - 1; rank > 0; --rank) {
    if (checksums[static_cast<size_t>(rank)] != checksums[0]) other = rank;
  }
  if (!other) return absl::OkStatus();
  const bool speaks = all.rank() == 0 || all.rank() == *other;
  const std::vector<std::string> gathered = all.AllGatherStrings(speaks ? Packed(texts) : "");
  const std::vector<std::string> here = Unpacked(gathered[0]), there = Unpacked(gathered[static_cast<size_t>(*other)]);
  // After the host, names and values in turn. A rank with fewer facts has nothing for the others.
  const auto at = [](const std::vector<std::string>& list, size_t i) { return i < list.size() ? list[i] : ""; };
  size_t i = 1;
  while (at(here, i) == at(there, i) && at(here, i + 1) == at(there, i + 1)) i += 2;
  // A list that has ended has nothing under the other's name.
  const bool ended = i >= here.size() || i >= there.size();
  const std::string name = i < here.size() ? here[i] : there[i];
  const auto said = [&](const std::vector<std::string>& list) {
    const std::string value = at(list, i + 1);
    return ended || at(list, i) == name ? Said(value) : at(list, i) + " " + Said(value);
  };
  return absl::FailedPreconditionError(
      name + ": rank " + std::to_string(*other) + " on host " + there[0] + " has " +
      said(there) + ", rank 0 on host " + here[0] + " has " + said(here) + "; every rank must have the same" +
      (remedy.empty() ? "" : "; " + remedy));
}

}  // namespace trefoil
