#include "launcher/corpus_flags.h"

#include <gflags/gflags.h>

#include "launcher/given_flags.h"

DEFINE_string(
    labels, "",
    "Of tokenize --records=labels, the names of all classes, separated by commas, in the order of their ids; empty: "
    "those that occur. Of images, the IDX file of the labels of --images.");
DEFINE_double(held_out, 0.05, "Share of the text, or records, or of each class's images, to hold out for evaluation.");
DEFINE_uint64(split_seed, 1, "Another seed holds out other text or images.");

namespace trefoil {

absl::Status CheckCorpusFlags() {
  if (FLAGS_held_out == 0 && IsGiven("split_seed")) {
    return absl::InvalidArgumentError(
        "--split_seed: chooses what is held out, and --held_out=0 holds out nothing; leave one out");
  }
  return absl::OkStatus();
}

}  // namespace trefoil
