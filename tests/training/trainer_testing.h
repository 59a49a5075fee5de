// A run as it should be beside one that meets trouble, for the tests of the trainer.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/training/run_testing.h"

namespace trefoil {

inline constexpr char kFour[] =
    "model { layers: 2 } parallel { tensor: 2 data: 2 } training { steps: 6 checkpoint { every_steps: 2 } }";

inline void ExpectError(const absl::Status& status, const std::vector<std::string>& parts) {
  ASSERT_FALSE(status.ok());
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks: " << part;
  }
}

class TrainTest : public testing::Test {
 protected:
  // The run as it should be, and another in a folder of its own that will meet trouble.
  void SetUpRuns(const std::string& more = kFour) {
    folder_ = NewFolder("runs");
    unbroken_ = TinyRun(folder_, more);
    const RunOutcome outcome = RunTraining(unbroken_);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    config_ = With(unbroken_, "folder: '" + folder_ + "/other'");
  }
  // The run goes on to its end as if nothing had happened.
  void ExpectRecovers() {
    const RunOutcome outcome = RunTraining(config_);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ExpectSameToTheBit(unbroken_, config_, unbroken_.training().steps());
  }

  std::string folder_;
  RunConfig unbroken_, config_;
};

}  // namespace trefoil
