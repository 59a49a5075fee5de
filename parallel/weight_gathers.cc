#include "parallel/weight_gathers.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

namespace trefoil {
namespace {

struct Slot {
  int bucket = -1;
  int last_use = -1;
};

class Lister {
 public:
  Lister(const std::vector<int>& uses, const std::vector<Bucket>& buckets, const BucketSlots& slots)
      : uses_(uses), buckets_(buckets), slots_(slots) {
    for (const BucketSlots::Kind& kind : slots.kinds) held_.emplace_back(static_cast<size_t>(kind.count));
    uses_of_.resize(buckets.size());
    for (int use = 0; use < static_cast<int>(uses.size()); ++use) {
      for (const size_t bucket : Needed(use)) uses_of_[bucket].push_back(use);
    }
  }

  std::vector<Gather> List() {
    for (int use = 0; use < static_cast<int>(uses_.size()); ++use) {
      // First what is there already, so that it is not dropped for the others.
      for (const size_t bucket : Needed(use)) {
        Slot* const slot = Holding(bucket);
        if (slot != nullptr) slot->last_use = use;
      }
      for (const size_t bucket : Needed(use)) {
        if (Holding(bucket) == nullptr) Fetch(use, bucket);
      }
    }
    return gathers_;
  }

 private:
  std::vector<Slot>& OfKind(size_t bucket) { return held_[static_cast<size_t>(slots_.kind_of[bucket])]; }

  // The buckets that have slots, of the use's module.
  const std::vector<size_t>& Needed(int use) {
    const int module = uses_[static_cast<size_t>(use)];
    const auto [found, is_new] = of_module_.try_emplace(module);
    for (size_t bucket = 0; is_new && bucket < buckets_.size(); ++bucket) {
      if (slots_.kind_of[bucket] >= 0 && buckets_[bucket].UsedBy(module)) found->second.push_back(bucket);
    }
    return found->second;
  }

  Slot* Holding(size_t bucket) {
    std::vector<Slot>& of_kind = OfKind(bucket);
    const auto found = std::find_if(of_kind.begin(), of_kind.end(),
                                    [&](const Slot& slot) { return slot.bucket == static_cast<int>(bucket); });
    return found == of_kind.end() ? nullptr : &*found;
  }

  // From `use` on; the last of all numbers if none.
  int NextUse(int use, int bucket) const {
    constexpr int kNone = std::numeric_limits<int>::max();
    if (bucket < 0) return kNone;
    const std::vector<int>& uses = uses_of_[static_cast<size_t>(bucket)];
    const auto next = std::lower_bound(uses.begin(), uses.end(), use);
    return next == uses.end() ? kNone : *next;
  }

  void Fetch(int use, size_t bucket) {
    std::vector<Slot>& of_kind = OfKind(bucket);
    Slot* best = nullptr;
    const auto rank = [&](const Slot& slot) {  // what may be filled early first, then what is needed latest
      return std::pair(slot.last_use < std::max(0, use - kPrefetch), NextUse(use, slot.bucket));
    };
    for (Slot& slot : of_kind) {
      if (slot.last_use == use) continue;
      if (best == nullptr || rank(slot) > rank(*best)) best = &slot;
    }
    CHECK(best != nullptr) << "module " << uses_[static_cast<size_t>(use)] << " has more buckets than slots";
    // Gathers are started in order.
    const int in_order = gathers_.empty() ? 0 : gathers_.back().start;
    gathers_.push_back({.bucket = bucket,
                        .slot = static_cast<int>(best - of_kind.data()),
                        .use = use,
                        .start = std::max({use - kPrefetch, best->last_use + 1, in_order, 0})});
    *best = {.bucket = static_cast<int>(bucket), .last_use = use};
  }

  const std::vector<int>& uses_;
  const std::vector<Bucket>& buckets_;
  const BucketSlots& slots_;
  std::map<int, std::vector<size_t>> of_module_;  // buckets
  std::vector<std::vector<int>> uses_of_;         // by bucket
  std::vector<std::vector<Slot>> held_;           // by kind
  std::vector<Gather> gathers_;
};

}  // namespace

std::vector<Gather> ListGathers(const std::vector<int>& uses, const std::vector<Bucket>& buckets,
                                const BucketSlots& slots) {
  return Lister(uses, buckets, slots).List();
}

}  // namespace trefoil
