#include "parallel/bucket_slots.h"

#include <algorithm>
#include <cstdlib>
#include <map>

namespace trefoil {
namespace {

using Members = std::vector<size_t>;  // buckets

std::vector<int> ModulesOf(const Bucket& bucket) {
  std::vector<int> modules = bucket.tied_modules;
  modules.push_back(bucket.module);
  return modules;
}

bool AreApart(const Bucket& a, const Bucket& b) {
  for (const int one : ModulesOf(a)) {
    for (const int other : ModulesOf(b)) {
      if (std::abs(one - other) <= 1) return false;
    }
  }
  return true;
}

// The most that one module has of them.
int MostOfAModule(const std::vector<Bucket>& buckets, const Members& members) {
  std::map<int, int> of_module;
  int most = 0;
  for (const size_t member : members) {
    for (const int module : ModulesOf(buckets[member])) most = std::max(most, ++of_module[module]);
  }
  return most;
}

}  // namespace

BucketSlots SlotsFor(const std::vector<Bucket>& buckets, const std::vector<bool>& wanted) {
  BucketSlots slots = {.kinds = {}, .kind_of = std::vector<int>(buckets.size(), -1)};
  const auto add = [&](const Members& members, int count) {
    BucketSlots::Kind kind = {.elements = 0, .count = count};
    for (const size_t member : members) {
      kind.elements = std::max(kind.elements, buckets[member].elements);
      slots.kind_of[member] = static_cast<int>(slots.kinds.size());
    }
    slots.kinds.push_back(kind);
  };
  std::map<int64_t, Members> of_size;
  for (size_t i = 0; i < buckets.size(); ++i) {
    if (wanted[i]) of_size[buckets[i].elements].push_back(i);
  }
  std::vector<Members> alone;
  for (const auto& [size, members] : of_size) {
    if (members.size() > 1) {
      add(members, std::min(static_cast<int>(members.size()), 2 * MostOfAModule(buckets, members)));
      continue;
    }
    const size_t bucket = members.front();
    const auto fits = std::find_if(alone.begin(), alone.end(), [&](const Members& others) {
      return std::all_of(others.begin(), others.end(),
                         [&](size_t other) { return AreApart(buckets[bucket], buckets[other]); });
    });
    fits == alone.end() ? alone.push_back({bucket}) : fits->push_back(bucket);
  }
  for (const Members& members : alone) add(members, 1);
  return slots;
}

}  // namespace trefoil
