// The program built with CUDA on a machine without a GPU: one line that says so, at once. Only with --config=cuda.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

// Runs the command, at most three times: on a busy machine the quickest run tells.
Ended Quickest(const std::vector<std::string>& argv, double seconds) {
  Ended quickest = RunProgram(argv);
  for (int again = 0; again < 2 && quickest.seconds > seconds; ++again) {
    const Ended ended = RunProgram(argv);
    if (ended.seconds < quickest.seconds) quickest = ended;
  }
  return quickest;
}

class CudaAbsent : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    for (const char* driver : {"/dev/nvidiactl", "/dev/dxg"}) {
      if (std::filesystem::exists(driver)) GTEST_SKIP() << "this machine has an NVIDIA driver: " << driver;
    }
    folder_ = EmptyFolder("cuda_absent");
    WriteZeroTokens(folder_ + "/train");
    WriteText(folder_ + "/run.pbtxt",
              "folder: '" + folder_ + "/run'\n" +
                  "model { family: LLAMA layers: 2 hidden: 32 heads: 4 vocabulary: 61 sequence_length: 16 }\n"
                  "data { train: '" + folder_ + "/train' }\ntraining { steps: 4 global_batch: 8 }\n");
    command_ = {Trefoil(), GetParam(), "--config=" + folder_ + "/run.pbtxt", "--set", "runtime.device=CUDA"};
  }

  // The one line, and nothing made in the run's folder.
  void ExpectLine(const std::string& output) const {
    EXPECT_EQ(output.find(std::string("trefoil ") + GetParam() + ": no GPU can be used: "), 0u) << output;
    EXPECT_EQ(Count(output, "\n"), 1) << output;
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/run"));
  }

  std::string folder_;
  std::vector<std::string> command_;
};

TEST_P(CudaAbsent, OneRankSaysSoWithinASecond) {
  const Ended ended = Quickest(command_, 1);
  EXPECT_EQ(ended.status, 1);
  EXPECT_LT(ended.seconds, 1);
  ExpectLine(ended.output);
}

// Each rank's exit status goes to a file and not to mpirun, which would add a page of its own.
TEST_P(CudaAbsent, OneOfTwoRanksSaysSoAndBothFail) {
  const std::string status = folder_ + "/status.";
  std::vector<std::string> argv = {"tests/mpi_run.sh", "2", "sh", "-c",
                                   "\"$0\" \"$@\"; echo $? > " + status + "$OMPI_COMM_WORLD_RANK"};
  argv.insert(argv.end(), command_.begin(), command_.end());
  const Ended ended = Quickest(argv, 10);
  EXPECT_EQ(ended.status, 0) << ended.output;
  EXPECT_LT(ended.seconds, 10);
  ExpectLine(ended.output);
  for (const char* rank : {"0", "1"}) EXPECT_EQ(ReadText(status + rank), "1\n") << "rank " << rank;
}

INSTANTIATE_TEST_SUITE_P(Commands, CudaAbsent, testing::Values("train", "bench"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace trefoil
