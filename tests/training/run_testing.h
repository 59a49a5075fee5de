// What the tests of whole runs share: a tiny run on token files of its own, Train() on every rank as threads, and what
// it leaves in its folder.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/collectives/world.h"
#include "training/run.pb.h"
#include "training/trainer.h"

namespace trefoil {

// An empty folder of the running test's own.
std::string NewFolder(const std::string& name);
void WriteTokens(const std::string& prefix, std::span<const int32_t> ids, int64_t vocabulary);
// Learnable: each id follows from the one before, but for one in four, which is random.
std::vector<int32_t> LearnableIds(int64_t count, int64_t vocabulary, uint64_t seed);

// A whole legal config: hidden 32, heads 4, layers 4, vocabulary 61, T 16, global batch 8, micro-batch 1, 20 steps,
// fp32, saves in the foreground, on fresh token files; its run folder is FOLDER/run and does not exist yet. `more`, in text format, overrides.
RunConfig TinyRun(const std::string& folder, const std::string& more = "");
// The config with `more` merged into it and defaults filled for its own number of ranks.
RunConfig With(RunConfig config, const std::string& more);
int RanksOf(const RunConfig& config);

// What a rank does otherwise than the rest.
struct RankRun {
  World& world;
  RunConfig config;
  TrainerOptions options;
  std::unique_ptr<World> own_world = nullptr;  // over that one, in its place
};
struct RunOutcome {
  absl::Status status;  // the same on every rank, expected
  RunEnd end = RunEnd::kFinished;  // of rank 0, if the status is OK
  std::string output;   // rank 0's lines
};
// Runs Train() on every rank. `change` may alter what a rank is given. hosts[r]: where rank r says that it is, as in
// ThreadRanks.
RunOutcome RunTraining(const RunConfig& config, const std::function<void(int rank, RankRun&)>& change = nullptr,
                       const std::vector<std::string>& hosts = {});
// The same, asked to stop before step `steps` + 1 of this invocation by its highest rank alone.
RunOutcome RunAndStopAfter(const RunConfig& config, int steps);

// metrics.jsonl, a line each, without what depends on the clock: "step 3 loss 4.1 norm 0.9 rate 0.001 tokens 128 held
// -". Numbers are written so that equal text means equal bits.
std::vector<std::string> MetricLines(const RunConfig& config);
std::vector<double> Losses(const RunConfig& config);

// The whole content of a checkpoint: every global tensor's bytes by name, and "trainer_state".
std::map<std::string, std::string> CheckpointContentOf(const RunConfig& config, int64_t step);
// Its newest complete checkpoint; -1 if there is none.
int64_t NewestStep(const RunConfig& config);
// Expects the two runs to have the same metrics and the same checkpoint of `step`, to the bit.
void ExpectSameToTheBit(const RunConfig& a, const RunConfig& b, int64_t step);

}  // namespace trefoil
