#include "launcher/checkpoints/list.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/files/folder_lock.h"
#include "runtime/random.h"
#include "tests/launcher/checkpoints/checkpoints_testing.h"

namespace trefoil {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// The rows of the table without sizes and ages: "4 complete 2 newest; each 4th".
std::vector<std::string> Rows(const std::string& path) {
  std::ostringstream out;
  EXPECT_EQ(ListNamed(FileSystem::Posix(), path, out), absl::OkStatus());
  std::vector<std::string> rows;
  bool table = false;
  const std::vector<std::string> lines = absl::StrSplit(out.str(), '\n', absl::SkipEmpty());
  for (const std::string& line : lines) {
    if (table) {
      std::vector<std::string> cells;
      size_t at = 0;
      while ((at = line.find_first_not_of(' ', at)) != std::string::npos) {
        const size_t end = std::min(line.find("  ", at), line.size());
        cells.push_back(line.substr(at, end - at));
        at = end;
      }
      EXPECT_THAT(cells[2], testing::MatchesRegex("[0-9.]+ (B|KiB|MiB)|-")) << line;
      EXPECT_THAT(cells[4], testing::MatchesRegex("[0-9]+ (s|min)")) << line;
      rows.push_back(absl::StrCat(cells[0], " ", cells[1], " ", cells[3], cells.size() > 5 ? " " + cells[5] : ""));
    }
    table = table || line.find("step  what") != std::string::npos;
  }
  return rows;
}

std::string Text(const std::string& path) {
  std::ostringstream out;
  EXPECT_EQ(ListNamed(FileSystem::Posix(), path, out), absl::OkStatus());
  return out.str();
}

TEST(ListTest, WhatARunHasAndWhyItIsKept) {
  const RunConfig config = SmallRun("checkpoint { every_steps: 2 keep_last: 3 keep_every: 4 }", 14);
  const std::string run = config.folder();
  const std::string best = absl::StrCat(BestInMetrics(config));
  ASSERT_NE(best, "0");
  std::vector<std::string> expected = {"4 complete 2 each 4th",  "6 complete 2 last 3",    "8 complete 2 each 4th",
                                       "10 complete 2 last 3", "12 complete 2 each 4th", "14 complete 2 newest"};
  for (std::string& row : expected) {
    if (row.starts_with(best + " ")) row += "; best held-out";
  }
  EXPECT_EQ(Rows(run), expected);
  EXPECT_EQ(Rows(run + "//"), expected);
  EXPECT_EQ(Rows(run + "/checkpoints"), expected);
  const std::string text = Text(run);
  EXPECT_THAT(text, HasSubstr("run         " + run));
  for (const char* line : {"model       LLAMA: 4 layers, hidden 32", "layout      tensor 1 x pipeline 1 x data 2",
                           "keep        the last 3; each 4th step's\n", "in use      by nobody\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  // Sizes are those of the files.
  int64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(run + "/checkpoints/step-00000014")) {
    bytes += static_cast<int64_t>(file.file_size());
  }
  EXPECT_THAT(text, HasSubstr(absl::StrCat("  14  complete  ", BytesText(bytes), "  2")));
  EXPECT_THAT(Rows(run + "/checkpoints/step-00000010"), ElementsAre("10 complete 2"));
}

TEST(ListTest, WhatIsNotCompleteIsListedAsWhatItIs) {
  const RunConfig config = SmallRun("checkpoint { every_steps: 2 keep_last: 0 }", 14);
  const std::string run = config.folder();
  const std::string at = run + "/checkpoints/step-000000";
  for (const auto& [from, to] :
       {std::pair("02", "02.0123456789abcdef.partial"), {"04", "04.deleted"}, {"06", "06.damaged"}}) {
    std::filesystem::rename(at + from, at + to);
  }
  std::filesystem::copy(at + "08", at + "08.replaced");
  std::filesystem::remove(at + "08/rank-00001.json");
  std::filesystem::resize_file(at + "10/rank-00000.bin", 100);
  FlipByte(at + "12/manifest.json", 100);
  const std::vector<std::string> rows = Rows(run);
  ASSERT_EQ(rows.size(), 8u);
  EXPECT_EQ(rows[0], "2 partial - left by a save that died; never read");
  EXPECT_EQ(rows[1], "4 deleted - half removed; never read");
  EXPECT_EQ(rows[2], "6 set aside - was found to be damaged; never read, never removed");
  EXPECT_EQ(rows[3], "8 incomplete 1 of 2 " + at + "08/rank-00001.json: no such file or directory");
  EXPECT_EQ(rows[4], "8 replaced - another of this step has taken its place; the next save removes it");
  EXPECT_THAT(rows[5], HasSubstr("10 incomplete 1 of 2 " + at + "10/rank-00000.bin: truncated: 100 bytes, but must be "));
  EXPECT_THAT(rows[6], HasSubstr("12 damaged - " + at + "12/manifest.json: damaged"));
  EXPECT_THAT(rows[7], HasSubstr("14 complete 2 newest"));
  EXPECT_THAT(Rows(at + "04.deleted"), ElementsAre("4 deleted - half removed; never read"));
  // A save of that step died between its renames: the earlier one counts.
  std::filesystem::remove_all(at + "08");
  EXPECT_THAT(Rows(run)[3], HasSubstr("8 complete 2"));
}

TEST(ListTest, WhoUsesTheRunAndWhatItIsWriting) {
  const RunConfig config = SmallRun("checkpoint { every_steps: 2 keep_last: 0 }", 4);
  const std::string run = config.folder();
  {
    const auto lock = *FolderLock::Take(FileSystem::Posix(), run);
    std::filesystem::create_directory(run + "/checkpoints/step-00000006." + lock->id() + ".partial");
    EXPECT_THAT(Text(run), HasSubstr(absl::StrCat(", process ", getpid(), ", since ")));
    EXPECT_EQ(Rows(run).back(), "6 partial - is being written");
  }
  EXPECT_EQ(Rows(run).back(), "6 partial - left by a save that died; never read");
  EXPECT_THAT(Text(run), Not(HasSubstr("process")));
}

// Which a run that stops early keeps: of a held-out text that nothing can be learned about from the other.
TEST(ListTest, TheBestOfAnEarlyStop) {
  const std::string folder = NewFolder("runs");
  const RunConfig config =
      TinyRun(folder, "parallel { data: 2 } data { held_out: '" + folder + "/random' } training { steps: 80 " +
                          "evaluate_every_steps: 2 early_stop { evaluations: 3 } optimizer { learning_rate: 0.01 } " +
                          "checkpoint { keep_last: 1 } }");
  std::vector<int32_t> random;
  for (uint64_t i = 0; i <= 20 * 16; ++i) random.push_back(static_cast<int32_t>(Philox(3, i)[0] % 61));
  WriteTokens(folder + "/random", random, 61);
  const RunOutcome outcome = RunTraining(config);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  std::filesystem::remove(config.folder() + "/metrics.jsonl");  // the checkpoints know it themselves
  const std::vector<std::string> rows = Rows(config.folder());
  ASSERT_EQ(rows.size(), 2u) << Text(config.folder());
  EXPECT_THAT(rows[0], HasSubstr(" complete 2 best held-out"));
  EXPECT_THAT(rows[1], HasSubstr(" complete 2 newest"));
  EXPECT_THAT(Text(config.folder()), HasSubstr("keep        the last 1; the best held-out\n"));
}

TEST(ListTest, WhatIsNoCheckpointIsNamed) {
  FileSystem& fs = FileSystem::Posix();
  std::ostringstream out;
  const std::string folder = NewFolder("empty");
  EXPECT_EQ(ListNamed(fs, folder + "/none", out), absl::NotFoundError(folder + "/none does not exist"));
  EXPECT_THAT(ListNamed(fs, folder, out).message(), HasSubstr(folder + ": holds no checkpoint (a folder step-NNNNNNNN)"));
  std::ofstream(folder + "/config.pbtxt").close();
  EXPECT_EQ(Text(folder), "run         " + folder +
                              "\nlayout      tensor 0 x context 0 x pipeline 0 x data 0 in its config.pbtxt\nkeep        all\n"
                              "in use      by nobody\ncheckpoints none\n");
}

}  // namespace
}  // namespace trefoil
