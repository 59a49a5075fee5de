// Room for whole buckets on a rank that keeps a share of each only (ZeRO 2 and 3): a few slots, in which weights are
// gathered or gradients are made, one bucket after the other. Taken once and kept, so that memory does not depend on
// timing.
//
//   const BucketSlots slots = SlotsFor(buckets, {true, true, false});   // for the first two
//   slots.kinds[slots.kind_of[0]];                                      // {.elements, .count}
//
// Buckets of one size, as those of a model's blocks, share slots: of each two times as many as one module has, so that
// one module's may be filled while another's are in use, or as many as there are buckets. Buckets of a size that no
// other has share one slot where their modules are not the same and not neighbours: the embedding and the head.
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/placement.h"

namespace trefoil {

struct BucketSlots {
  struct Kind {
    int64_t elements = 0;  // of each slot
    int count = 0;
  };
  std::vector<Kind> kinds;
  std::vector<int> kind_of;  // by bucket; -1: has none
};

// `wanted`, by bucket: which need slots.
BucketSlots SlotsFor(const std::vector<Bucket>& buckets, const std::vector<bool>& wanted);

}  // namespace trefoil
