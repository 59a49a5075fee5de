#include "launcher/cluster/mpirun_noise.h"

#include <gtest/gtest.h>

#include <string>

namespace trefoil {
namespace {

const std::string kDashes = std::string(74, '-') + "\n";
// As Open MPI 4.1.4 prints them.
const std::string kPrimaryJob = kDashes +
                                "Primary job  terminated normally, but 1 process returned\n"
                                "a non-zero exit code. Per user-direction, the job has been aborted.\n" +
                                kDashes;
const std::string kNonZero = kDashes +
                             "mpirun detected that one or more processes exited with non-zero status, thus causing\n"
                             "the job to be terminated. The first process to do so was:\n\n"
                             "  Process name: [[2403,1],0]\n  Exit code:    75\n" +
                             kDashes;
const std::string kAbort = kDashes +
                           "MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD\nwith errorcode 1.\n\n"
                           "NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.\n" +
                           kDashes;
const std::string kSignal = kDashes +
                            "mpirun noticed that process rank 1 with PID 0 on node vm exited on signal 9 (Killed).\n" +
                            kDashes;

// What is shown of a text that comes in pieces of so many bytes.
std::string Shown(const std::string& text, size_t piece) {
  MpirunNoise noise;
  std::string shown;
  for (size_t i = 0; i < text.size(); i += piece) shown += noise.Add(std::string_view(text).substr(i, piece));
  return shown + noise.End();
}

TEST(MpirunNoiseTest, DropsBlocksOfExitStatusesAndKeepsTheRest) {
  const std::string error = "trefoil train: data.train: no file matches 'x-*'\n";
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{75}, size_t{4096}}) {
    EXPECT_EQ(Shown(error + kPrimaryJob + kNonZero, piece), error) << piece;
    EXPECT_EQ(Shown(error + kAbort + error, piece), error + error) << piece;
    EXPECT_EQ(Shown(kSignal, piece), kSignal) << piece;
    EXPECT_EQ(Shown(kSignal + kPrimaryJob + kSignal, piece), kSignal + kSignal) << piece;
    // Dashes of others: of another length, before any text, at the end, without an end.
    for (const std::string& other :
         {std::string("-----\n"), kDashes, kDashes + "a table\n" + kDashes, kDashes + kDashes, "x" + kDashes,
          kDashes.substr(0, 70), kDashes + "Primary job  terminated normally, but\nno more dashes"}) {
      EXPECT_EQ(Shown(other, piece), other) << piece;
    }
  }
}

TEST(MpirunNoiseTest, APartOfALineIsShownAtOnce) {
  MpirunNoise noise;
  EXPECT_EQ(noise.Add("tokenizing [==>"), "tokenizing [==>");
  EXPECT_EQ(noise.Add("\rtokenizing [===>"), "\rtokenizing [===>");
  EXPECT_EQ(noise.Add("\n"), "\n");
  EXPECT_EQ(noise.Add("--"), "") << "may become a line of dashes";
  EXPECT_EQ(noise.Add("help\n"), "--help\n");
}

TEST(MpirunNoiseTest, ABlockWithoutAnEndIsShownBeforeLong) {
  MpirunNoise noise;
  EXPECT_EQ(noise.Add(kDashes + "MPI_ABORT was invoked on rank 0\n"), "");
  EXPECT_GT(noise.Add(std::string(5000, 'x') + "\n").size(), 5000u);
  EXPECT_EQ(noise.Add("step 7\n"), "step 7\n");
}

}  // namespace
}  // namespace trefoil
