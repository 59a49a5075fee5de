#include "runtime/files/crc32c.h"

#include <gtest/gtest.h>

#include <string>

namespace trefoil {
namespace {

// Bit by bit from the definition.
uint32_t Reference(std::string_view text) {
  uint32_t crc = 0xffffffff;
  for (const char c : text) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
  }
  return ~crc;
}

std::string Bytes(size_t size) {
  std::string text;
  uint32_t x = 12345;
  while (text.size() < size) text += static_cast<char>((x = x * 1664525 + 1013904223) >> 24);
  return text;
}

TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);    // RFC 3720, B.4
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);  // RFC 3720, B.4
}

TEST(Crc32c, BothImplementationsMatchTheDefinitionAtEveryLengthAndAlignment) {
  const std::string text = Bytes(80);
  for (size_t begin = 0; begin < 9; ++begin) {
    for (size_t size = 0; size + begin <= text.size(); ++size) {
      const std::string_view part = std::string_view(text).substr(begin, size);
      EXPECT_EQ(Crc32c(part), Reference(part)) << begin << " " << size;
      EXPECT_EQ(Crc32cPortable(std::as_bytes(std::span(part))), Reference(part)) << begin << " " << size;
    }
  }
}

TEST(Crc32c, ExtendsAcrossAnyCut) {
  const std::string text = Bytes(100);
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const std::string_view head = std::string_view(text).substr(0, cut), tail = std::string_view(text).substr(cut);
    EXPECT_EQ(Crc32c(tail, Crc32c(head)), Crc32c(text)) << cut;
    EXPECT_EQ(Crc32cPortable(std::as_bytes(std::span(tail)), Crc32cPortable(std::as_bytes(std::span(head)))),
              Crc32c(text))
        << cut;
  }
}

}  // namespace
}  // namespace trefoil
