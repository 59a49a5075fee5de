// The token files of a run, opened: before anything is planned or allocated, so that a mistake in them costs nothing.
//
//   TREFOIL_ASSIGN_OR_RETURN(const RunData data, OpenRunData(config, *all));
#pragma once

#include <cstdint>
#include <memory>

#include "data/loader.h"
#include "parallel/collectives.h"
#include "training/run.pb.h"

namespace trefoil {

struct RunData {
  std::unique_ptr<Loader> train;
  std::unique_ptr<Loader> held_out;  // null: no evaluation
  int64_t evaluation_batches = 0;    // global batches of one evaluation
  double unigram_entropy = 0;        // of the held-out text
};

// The config is filled and legal, with its vocabulary set. Every rank calls it.
// Failure: files that a rank cannot open, too few tokens; files that differ between ranks, such as a host's own copy that
// lacks a shard. The same Status on every rank.
absl::StatusOr<RunData> OpenRunData(const RunConfig& config, Group& all);

}  // namespace trefoil
