// What makes a run the same run after a restart: what its checkpoints say of it beside the tensors (TrainerState, and the
// model's description), and what a start changes of that.
//
//   for (const Change& change : ChangesSince({saved_state, saved_model}, {IdentityOf(...), config.model()})) ...
//
// A change is harmless when the run goes on as it would have, or as the config plainly asks: it is said. Any other gives
// what was trained so far another meaning: a start that makes one is refused unless it is allowed by name.
//
// Pure functions.
#pragma once

#include <string>
#include <vector>

#include "training/run.pb.h"
#include "training/run_data.h"
#include "training/trainer_state.pb.h"

namespace trefoil {

// Of a run that is started: all of TrainerState but its place (step, samples_used, skipped steps). `tokenizer`: the checksum of data.tokenizer
// (data/tokens/tokenizer_files.h); empty if there is none.
TrainerState IdentityOf(const RunConfig& config, const RunData& data, const std::string& tokenizer);

struct Change {
  std::string name;  // "model.sequence_length"
  std::string before, now;
  bool harmless;
  std::string consequence;

  // "model.sequence_length was 32, is 16: samples are ..."
  std::string Text() const { return name + " was " + before + ", is " + now + ": " + consequence; }
};

struct Identity {
  const TrainerState& state;
  const ModelConfig& model;
};

// Every change, in a fixed order. What either side does not know (a checkpoint from before a field was there, a run
// without a tokenizer) is no change.
std::vector<Change> ChangesSince(const Identity& before, const Identity& now);

}  // namespace trefoil
