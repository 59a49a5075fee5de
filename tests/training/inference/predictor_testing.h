// Predictors of golden networks' initial weights, and what they say, compared.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/directory.h"
#include "tests/model/golden_testing.h"
#include "training/inference/predictor.h"
#include "training/saving/resume.h"

namespace trefoil {

inline std::string NewFolder() {
  std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
  std::replace(name.begin(), name.end(), '/', '_');
  const std::string folder = testing::TempDir() + "/" + name;
  std::filesystem::remove_all(folder);
  return folder;
}

// The run's ranks save their initial weights as its checkpoint of step 0.
inline void SaveInitial(const RunConfig& config) {
  WithWorkers(config, [&](Worker& worker) {
    const absl::Status saved = SaveCheckpoint(FileSystem::Posix(), worker, CheckpointsFolder(config), TrainerState(),
                                              "test", [] { return absl::OkStatus(); });
    ASSERT_TRUE(saved.ok()) << saved;
  });
}

// Calls the body on each of the ranks with a predictor of what was saved.
inline void OnLayout(const RunConfig& config, const InferenceLayout& layout,
                     const std::function<void(Predictor&)>& body, int copies = 1) {
  RunRanksAsThreads(layout.tensor * layout.pipeline * copies, [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    Predictor predictor(config.model(), layout, world, *device);
    const absl::Status loaded = predictor.Load(FileSystem::Posix(), CheckpointPath(CheckpointsFolder(config), 0));
    ASSERT_TRUE(loaded.ok()) << loaded;
    body(predictor);
  });
}

// On one rank.
inline void WithPredictor(const RunConfig& config, const std::function<void(Predictor&)>& body) {
  SaveInitial(config);
  OnLayout(config, {}, body);
}

// Sample b's first n tokens.
inline std::span<const int32_t> FirstOf(const HostTensor& ids, int64_t sample, int64_t n) {
  return std::span(ids.values<int32_t>()).subspan(static_cast<size_t>(sample * ids.shape()[1]), static_cast<size_t>(n));
}

// Every prefix of every sample.
inline std::vector<Prefix> PrefixesOf(const HostTensor& ids) {
  std::vector<Prefix> prefixes;
  for (int64_t b = 0; b < ids.shape()[0]; ++b) {
    for (int64_t n = 1; n <= ids.shape()[1]; ++n) prefixes.push_back({.text = b, .ids = FirstOf(ids, b, n)});
  }
  return prefixes;
}

inline void ExpectSameRows(std::span<const float> row, std::span<const float> expected, double tolerance = 1e-5) {
  ASSERT_EQ(row.size(), expected.size());
  for (size_t i = 0; i < row.size(); ++i) ASSERT_NEAR(row[i], expected[i], tolerance * (1 + std::abs(expected[i])));
}

}  // namespace trefoil
