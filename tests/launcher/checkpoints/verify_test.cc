#include "launcher/checkpoints/verify.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "tests/launcher/checkpoints/checkpoints_testing.h"

namespace trefoil {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

struct Seen {
  absl::Status status;
  std::string text;
};

Seen Verify(const std::string& path, std::optional<int64_t> step = std::nullopt) {
  std::ostringstream out;
  const absl::Status status = VerifyNamed(FileSystem::Posix(), path, step, out);
  return {status, out.str()};
}

TEST(VerifyNamedTest, AllOfARunOrTheOneThatIsNamed) {
  const std::string run = SmallRun("checkpoint { every_steps: 2 keep_last: 0 }", 6).folder();
  const std::string at = run + "/checkpoints/step-0000000";
  const auto whole = [](int step) { return absl::StrCat("step ", step, "         whole    [0-9]+ KiB as written\n"); };
  const Seen all = Verify(run);
  EXPECT_EQ(all.status, absl::OkStatus());
  EXPECT_THAT(all.text, MatchesRegex(whole(6) + whole(4) + whole(2)));
  EXPECT_THAT(Verify(run + "/checkpoints", 4).text, MatchesRegex(whole(4)));
  EXPECT_THAT(Verify(at + "2").text, MatchesRegex(whole(2)));
  EXPECT_EQ(Verify(run, 3).status,
            absl::NotFoundError(run + ": no complete checkpoint of step 3; there are 6, 4, 2"));

  FlipByte(at + "4/rank-00001.bin", 5000);
  std::filesystem::remove(at + "2/rank-00000.json");
  const Seen damaged = Verify(run);
  EXPECT_EQ(damaged.status,
            absl::DataLossError("2 of 3 checkpoints are damaged: " + at + "4, " + at + "2"));
  EXPECT_THAT(damaged.text, HasSubstr("step 6         whole"));
  EXPECT_THAT(damaged.text, HasSubstr("step 4         damaged"));
  EXPECT_THAT(damaged.text, HasSubstr("  " + at + "4/rank-00001.bin: damaged: tensor \""));
  EXPECT_THAT(damaged.text, HasSubstr("  " + at + "2/rank-00000.json: no such file or directory\n"));
  EXPECT_EQ(Verify(run, 6).status, absl::OkStatus());
  EXPECT_EQ(Verify(at + "4").status, absl::DataLossError("1 of 1 checkpoint is damaged: " + at + "4"));

  // What is not complete is looked at only if it is named.
  std::filesystem::rename(at + "4", at + "4.damaged");
  EXPECT_THAT(Verify(run).status.message(), HasSubstr("1 of 2 checkpoints"));
  EXPECT_TRUE(absl::IsDataLoss(Verify(at + "4.damaged").status));
  std::filesystem::remove_all(run + "/checkpoints");
  EXPECT_EQ(Verify(run).status, absl::NotFoundError(run + ": no complete checkpoint"));
}

TEST(VerifyNamedTest, OfVeryMuchDamageTheFirstLines) {
  Verified verified;
  for (int i = 0; i < 21; ++i) verified.damage.push_back(absl::StrCat("line ", i));
  EXPECT_EQ(DamageLines(verified).size(), 21u);
  EXPECT_EQ(DamageLines(verified).back(), "line 20");
  verified.damage.push_back("line 21");
  EXPECT_EQ(DamageLines(verified).size(), 21u);
  EXPECT_EQ(DamageLines(verified).back(), "... and 2 more");
}

}  // namespace
}  // namespace trefoil
