// Which weights are gathered when, on ranks that keep a share of each bucket (ZeRO 3): a list made from the modules that
// a stage's actions use one after the other, as a schedule is a list of actions. The program runs it
// (parallel/weight_gatherer.h), tests prove it, the planner counts it.
//
//   blocks 1, 2, 3 of one bucket each, forward and backward, two slots:
//   ListGathers({1, 2, 3, 3, 2, 1}, buckets, slots)
//     use 0 1       use 1 2       use 2 3       use 3 3       use 4 2       use 5 1
//     starts 1, 2   starts 3      -             -             starts 1      -
//
// A bucket that is in its slot is not gathered anew: block 3 above for its backward, nor block 2, whose slot nobody has
// needed. What is dropped for another is, of what the use before does not need, that which is needed latest.
// A gather is started one use ahead (kPrefetch) where it does not overwrite what that use needs.
//
// Threads: pure functions.
#pragma once

#include <cstddef>
#include <vector>

#include "parallel/bucket_slots.h"
#include "parallel/placement.h"

namespace trefoil {

struct Gather {
  size_t bucket = 0;
  int slot = 0;   // of its kind
  int use = 0;    // the first that needs it, by its place in the list of uses
  int start = 0;  // the use at whose beginning it is started, when that use's own have come; `use` or before
  bool operator==(const Gather&) const = default;
};

inline constexpr int kPrefetch = 1;  // uses

// In the order in which they are started, which is that of their uses. `uses`: the module of each.
std::vector<Gather> ListGathers(const std::vector<int>& uses, const std::vector<Bucket>& buckets,
                                const BucketSlots& slots);

}  // namespace trefoil
