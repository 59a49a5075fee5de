#include "runtime/version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>

namespace trefoil {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

std::string OutputOf(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  std::string output;
  for (int c; (c = std::fgetc(pipe)) != EOF;) output.push_back(static_cast<char>(c));
  EXPECT_EQ(pclose(pipe), 0) << command;
  return output;
}

TEST(VersionTest, IsTheBuildIdThatBinutilsRead) {
  EXPECT_THAT(BuildId(), MatchesRegex("[0-9a-f]{16}"));
  EXPECT_THAT(OutputOf("readelf --notes /proc/" + std::to_string(getpid()) + "/exe"),
              HasSubstr("Build ID: " + BuildId()));
}

TEST(VersionTest, TheSameProgramHasOneIdAndAnotherProgramAnother) {
  const std::string probe = "tests/runtime/version_probe_";
  EXPECT_EQ(OutputOf(probe + "1"), OutputOf(probe + "1"));
  EXPECT_NE(OutputOf(probe + "1"), OutputOf(probe + "2"));
}

TEST(VersionTest, TextNamesBuildAndCompiler) {
  EXPECT_THAT(VersionText(), MatchesRegex("build [0-9a-f]{16} \\(GCC [0-9].*\\)"));
}

}  // namespace
}  // namespace trefoil
