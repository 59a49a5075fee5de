// A legal run to change in one place, for the tests of config rules and defaults.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "training/config/validate.h"

namespace trefoil {

inline constexpr int kRanks = 8;

// A legal Llama run on 8 ranks (tensor 2 x pipeline 2 x data 2), then `changes` in text format.
inline RunConfig Changed(const std::string& changes) {
  RunConfig config;
  const std::string base = R"(
      folder: "runs/test"
      model { family: LLAMA layers: 4 hidden: 96 heads: 12 kv_heads: 6 feed_forward: 768 vocabulary: 1000
              sequence_length: 64 }
      parallel { tensor: 2 pipeline: 2 }
      data { train: "corpus/train" }
      training { steps: 100 global_batch: 16 micro_batch: 2 optimizer { warmup_steps: 10 } })";
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(base, &config));
  RunConfig change;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(changes, &change)) << changes;
  config.MergeFrom(change);
  return config;
}

inline std::vector<std::string> Check(RunConfig config, int ranks = kRanks) {
  FillDefaults(&config, ranks, {});
  return Violations(config, ranks);
}

}  // namespace trefoil
