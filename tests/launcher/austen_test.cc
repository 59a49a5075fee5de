#include "launcher/corpora/austen.h"

#include <gtest/gtest.h>
#include <zlib.h>

namespace trefoil {
namespace {

std::string U32(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

// An R character vector as R's serialize() writes it.
std::string Object(const std::vector<std::string>& lines) {
  std::string object = "X\n" + U32(3) + U32(0x40201) + U32(0x30500) + U32(5) + "UTF-8" + U32(16) + U32(lines.size());
  for (const std::string& line : lines) object += U32(0x40009) + U32(line.size()) + line;
  return object;
}

std::string Record(const std::string& object) {
  uLongf size = compressBound(object.size());
  std::string packed(size, 0);
  EXPECT_EQ(compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(object.data()),
                     object.size()),
            Z_OK);
  return U32(object.size()) + packed.substr(0, size);
}

TEST(ReadNovels, LinesComeBackWithNewlines) {
  std::string missing = Object({"EMMA", "", "x"});
  missing.replace(missing.size() - 5, 5, U32(UINT32_MAX));  // the last line is R's NA
  const std::string rdb =
      Record(Object({"", "PERSUASION", "", "  Sir Walter \xe2\x80\x94", "FINIS"})) + Record(missing);
  auto novels = ReadNovels("x.rdb", rdb);
  ASSERT_TRUE(novels.ok()) << novels.status();
  ASSERT_EQ(novels->size(), 2u);
  EXPECT_EQ((*novels)[0].title, "PERSUASION");
  EXPECT_EQ((*novels)[0].text, "\nPERSUASION\n\n  Sir Walter \xe2\x80\x94\nFINIS\n");
  EXPECT_EQ((*novels)[1].text, "EMMA\n\n\n");
}

TEST(ReadNovels, DamageIsLocated) {
  const std::string one = Record(Object({"EMMA", "text"})), two = Record(Object({"PERSUASION", "text"}));
  const std::string rdb = one + two;
  for (size_t bytes = 0; bytes < rdb.size(); ++bytes) {
    if (bytes == one.size()) continue;
    auto novels = ReadNovels("x.rdb", rdb.substr(0, bytes));
    ASSERT_FALSE(novels.ok()) << bytes;
    EXPECT_NE(novels.status().message().find("x.rdb: "), std::string::npos);
    if (bytes > one.size()) {
      EXPECT_NE(novels.status().message().find("record at byte " + std::to_string(one.size())), std::string::npos)
          << novels.status();
    }
  }
  std::string number = Object({"EMMA"});
  number[26] = 13;  // an integer vector
  EXPECT_FALSE(ReadNovels("x.rdb", Record(number)).ok());
  std::string symbol = Object({"EMMA", "text"});
  symbol[symbol.size() - 9] = 1;  // the last line is no string
  EXPECT_FALSE(ReadNovels("x.rdb", Record(symbol)).ok());
  std::string too_long = Object({"EMMA"});
  too_long[too_long.size() - 5] = 5;  // one more byte than there is
  EXPECT_FALSE(ReadNovels("x.rdb", Record(too_long)).ok());
  EXPECT_FALSE(ReadNovels("x.rdb", "plain text, not an rdb file").ok());
}

}  // namespace
}  // namespace trefoil
