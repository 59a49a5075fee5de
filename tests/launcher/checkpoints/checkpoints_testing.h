// What the tests of `trefoil checkpoint` share: a small run of two ranks, and what it has written.
#pragma once

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/directory.h"
#include "runtime/number_text.h"
#include "tests/training/run_testing.h"

namespace trefoil {

// Trained: two data ranks, evaluated at every second step. `training`: more of that config, in text format.
inline RunConfig SmallRun(const std::string& training, int steps) {
  const std::string folder = NewFolder("runs");
  const RunConfig config =
      TinyRun(folder, absl::StrCat("parallel { data: 2 } data { held_out: '", folder, "/held_out' } training { steps: ",
                                   steps, " evaluate_every_steps: 2 ", training, " }"));
  const RunOutcome outcome = RunTraining(config);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  return config;
}

// The step with the least held-out loss among those of which there is a checkpoint.
inline int64_t BestInMetrics(const RunConfig& config) {
  std::ifstream lines(config.folder() + "/metrics.jsonl");
  int64_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    const auto step = json["step"].get<int64_t>();
    if (!json.contains("held_out_loss") || json["held_out_loss"].get<double>() >= least) continue;
    if (!FileSystem::Posix().Exists(CheckpointPath(config.folder() + "/checkpoints", step))) continue;
    best = step;
    least = json["held_out_loss"].get<double>();
  }
  return best;
}

inline void FlipByte(const std::string& path, int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ 0x5a);
  file.seekp(at);
  file.put(byte);
}

}  // namespace trefoil
