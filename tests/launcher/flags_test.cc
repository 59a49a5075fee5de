// Freezes the command line: a flag is added or changed on purpose, in tests/launcher/flags.golden too. What belongs to
// a run is a field of the config (`--set`), not a flag.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "launcher/command.h"
#include "launcher/help.h"

namespace trefoil {
namespace {

TEST(FlagsTest, TheCommandLineIsAsTheGoldenFileSays) {
  std::string found;
  for (const Command& command : Commands()) {
    found += std::string(command.name) + "\n";
    for (const std::string& flag : FlagList(command)) found += "  " + flag + "\n";
  }
  std::ifstream file("tests/launcher/flags.golden");
  ASSERT_TRUE(file.good());
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(found, golden.str());
}

TEST(FlagsTest, EveryFlagFileExistsInTheProgram) {
  for (const Command& command : Commands()) {
    EXPECT_EQ(command.flag_files.empty(), FlagList(command).empty()) << command.name;
  }
}

}  // namespace
}  // namespace trefoil
