#include "data/text/byte_source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <fstream>
#include <random>

namespace trefoil {
namespace {

std::string Write(const std::string& name, const std::string& content) {
  const std::string path = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
                           std::to_string(getpid()) + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string Gzip(const std::string& text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// Text that compresses some, but not to nothing.
std::string Text(int64_t bytes, unsigned seed) {
  std::minstd_rand random(seed);
  std::string text;
  while (static_cast<int64_t>(text.size()) < bytes) text += "words "[random() % 6] + std::to_string(random() % 50);
  text.resize(static_cast<size_t>(bytes));
  return text;
}

struct Outcome {
  absl::Status status;
  std::string text;
  int64_t stored = 0;
};

// Everything, `step` bytes at a time.
Outcome ReadAll(const std::string& path, int64_t begin, int64_t end, int64_t step) {
  Outcome outcome;
  auto source = ByteSource::Open(path, begin, end);
  outcome.status = source.status();
  if (!source.ok()) return outcome;
  while (!(*source)->ended()) {
    const size_t before = outcome.text.size();
    outcome.status = (*source)->Append(step, &outcome.text);
    if (!outcome.status.ok()) return outcome;
    EXPECT_LE(outcome.text.size() - before, static_cast<size_t>(step));
    EXPECT_EQ(outcome.text.size() == before, (*source)->ended()) << "none only at the end";
  }
  outcome.stored = (*source)->stored_bytes();
  return outcome;
}

TEST(ByteSource, AFileOrAPartOfIt) {
  const std::string text = Text(1000, 1), path = Write("x.txt", text);
  for (const int64_t step : {1, 7, 999, 1000, 5000}) {
    const Outcome whole = ReadAll(path, 0, -1, step);
    ASSERT_TRUE(whole.status.ok()) << whole.status;
    EXPECT_EQ(whole.text, text);
    EXPECT_EQ(whole.stored, 1000);
    EXPECT_EQ(ReadAll(path, 0, 0, step).text, "");
    EXPECT_EQ(ReadAll(path, 990, -1, step).text, text.substr(990));
    EXPECT_EQ(ReadAll(path, 10, 30, step).text, text.substr(10, 20));
    EXPECT_EQ(ReadAll(path, 10, 5000, step).text, text.substr(10)) << "an end beyond the file's";
    EXPECT_EQ(ReadAll(path, 1000, -1, step).text, "");
    EXPECT_EQ(ReadAll(path, 2000, -1, step).text, "");
  }
  EXPECT_EQ(ReadAll(Write("empty", ""), 0, -1, 10).text, "");
}

TEST(ByteSource, AppendsToWhatIsThere) {
  const std::string path = Write("x", "abcdef");
  auto source = ByteSource::Open(path, 0, -1);
  ASSERT_TRUE(source.ok());
  std::string text = "before ";
  ASSERT_TRUE((*source)->Append(4, &text).ok());
  EXPECT_EQ(text, "before abcd");
  EXPECT_EQ((*source)->stored_bytes(), 4);
  EXPECT_FALSE((*source)->ended());
}

TEST(ByteSource, CompressedByName) {
  EXPECT_TRUE(ByteSource::IsCompressed("a/x.jsonl.gz"));
  EXPECT_TRUE(ByteSource::IsCompressed("x.txt.zst"));
  EXPECT_FALSE(ByteSource::IsCompressed("x.gz.txt"));
  for (const int64_t bytes : {0, 1, 5000, 1 << 20}) {  // the last: several buffers
    const std::string text = Text(bytes, 2);
    for (const auto& [name, stored] : {std::pair("x.gz", Gzip(text)), std::pair("x.zst", Zstd(text))}) {
      const std::string path = Write(name, stored);
      for (const int64_t step : {int64_t{100'003}, int64_t{1} << 22}) {
        const Outcome outcome = ReadAll(path, 0, -1, step);
        ASSERT_TRUE(outcome.status.ok()) << outcome.status;
        EXPECT_TRUE(outcome.text == text) << name << " " << bytes;
        EXPECT_EQ(outcome.stored, static_cast<int64_t>(stored.size()));
      }
    }
  }
  EXPECT_EQ(ReadAll(Write("not.txt", Gzip("text")), 0, -1, 100).text, Gzip("text")) << "by name, not by content";
}

TEST(ByteSource, MembersOneAfterTheOther) {
  const std::string a = Text(3000, 3), b = Text(70'000, 4);
  for (const int64_t step : {11, 1 << 20}) {
    EXPECT_EQ(ReadAll(Write("x.gz", Gzip(a) + Gzip("") + Gzip(b)), 0, -1, step).text, a + b);
    EXPECT_EQ(ReadAll(Write("x.zst", Zstd(a) + Zstd("") + Zstd(b)), 0, -1, step).text, a + b);
  }
}

TEST(ByteSource, CutShortAnywhereIsSaid) {
  const std::string text = Text(3000, 5);
  for (const auto& [name, stored] : {std::pair("x.gz", Gzip(text)), std::pair("x.zst", Zstd(text))}) {
    for (size_t bytes = 1; bytes < stored.size(); bytes += 97) {
      const std::string path = Write(name, stored.substr(0, bytes));
      const Outcome outcome = ReadAll(path, 0, -1, 1000);
      ASSERT_FALSE(outcome.status.ok()) << name << " " << bytes;
      EXPECT_TRUE(absl::IsDataLoss(outcome.status)) << outcome.status;
      EXPECT_NE(outcome.status.message().find(path), std::string::npos) << outcome.status;
    }
  }
}

TEST(ByteSource, WhatIsNotOfItsFormatIsSaid) {
  for (const char* name : {"x.gz", "x.zst"}) {
    const std::string path = Write(name, Text(500, 6));
    const Outcome outcome = ReadAll(path, 0, -1, 1000);
    ASSERT_FALSE(outcome.status.ok());
    EXPECT_NE(outcome.status.message().find(path + ": not valid "), std::string::npos) << outcome.status;
  }
  std::string damaged = Gzip(Text(50'000, 7));
  damaged[damaged.size() / 2] ^= 0x40;
  EXPECT_FALSE(ReadAll(Write("d.gz", damaged), 0, -1, 1000).status.ok());
}

TEST(ByteSource, AFileThatIsNotThereIsNamed) {
  const std::string path = testing::TempDir() + "/nothing.txt";
  const absl::Status status = ByteSource::Open(path, 0, -1).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_NE(status.message().find(path), std::string::npos) << status;
  // A folder opens, and cannot be read.
  const Outcome folder = ReadAll(testing::TempDir(), 0, 10, 10);
  EXPECT_FALSE(folder.status.ok() && !folder.text.empty());
}

}  // namespace
}  // namespace trefoil
