// The layouts of a run on a number of ranks, ranked by what the planner says of their speed, and why others do not fit.
//
//   const SearchResult found = SearchLayouts(config, 3072, planner, {});
//   found.fits.front().config.parallel();
//
// Tried are all legal choices of tensor (within a node), context (with 4096 tokens or more of a sample on each rank, by
// both methods), pipeline, data, schedule with its chunks (all that are named but GPIPE, which 1F1B is never slower than)
// and micro-batch, with pieces of equal numbers of blocks. Of the rest, what never makes a layout slower comes first:
// sequence parallelism on, ZeRO's optimizer split, and the least recomputation with which it fits. Where that needs some,
// or does not fit, also ZeRO's split gradients and weights, over all data ranks and in copies that lie on a node each. A
// first estimate, from one stage of each kind, chooses what is simulated in full. A second buffer of saves in the
// background (training.checkpoint.writing) is not counted: where it does not fit, there is none.
//
// Threads: the planner's.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "planner/plan.h"

namespace trefoil {

struct Layout {
  RunConfig config;
  double seconds = 0;  // of a step
  double utilisation = 0, bubble = 0;
  int64_t reserved = 0;    // bytes, of the fullest rank
  MemoryUse memory;    // of that rank
};

struct SearchOptions {
  // Fields that stay as the config has them: "tensor", "context", "context_method", "pipeline", "data", "chunks",
  // "schedule", "micro_batch", "recompute", "zero", "replicas", "sequence_parallel".
  std::set<std::string> pinned;
  // Simulated in full; the best of them are what is returned.
  int simulated = 24;
  // Of the tried so far and of all, if set; on any thread, one at a time.
  std::function<void(int done, int all)> progress;
};

struct SearchResult {
  std::vector<Layout> fits;       // the fastest of each tensor x pipeline x data, fastest first
  // Even so, by the memory that they lack, least first; without those that hold as much as one of them and more.
  std::vector<Layout> too_large;
  int tried = 0;
};

// `config` is filled and legal but for its layout; its global batch and model are what is searched for. Layouts that
// break a rule (training/config/validate.h) are not tried. Tried on all cores of this host; what is found does not
// depend on how many.
SearchResult SearchLayouts(const RunConfig& config, int ranks, Planner& planner, const SearchOptions& options);

}  // namespace trefoil
