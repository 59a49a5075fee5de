#include "data/tokens/token_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>

#include "runtime/files/file.h"

namespace trefoil {
namespace {

std::string Path(const std::string& name) {
  const std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
                             std::to_string(getpid());
  EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  return folder + "/" + name;
}

std::string Content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

void WriteContent(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

void WritePair(const std::string& prefix, const std::vector<std::vector<int32_t>>& documents, int64_t vocabulary) {
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), prefix, vocabulary);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const auto& document : documents) ASSERT_TRUE((*writer)->AddDocument(document).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

std::string FromHex(const std::string& hex) {
  std::string bytes, digits;
  for (char c : hex) {
    if (c != ' ') digits += c;
  }
  for (size_t i = 0; i < digits.size(); i += 2) bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return bytes;
}

// Documents [1,2,3], [7], [9,9,9,9,65535] as u16, as Megatron-LM writes them.
const char kGoldenIdx[] =
    "4d4d49444944580000 0100000000000000 08 0300000000000000 0400000000000000 03000000 01000000 05000000 "
    "0000000000000000 0600000000000000 0800000000000000 0000000000000000 0100000000000000 0200000000000000 "
    "0300000000000000";
const char kGoldenBin[] = "0100 0200 0300 0700 0900 0900 0900 0900 ffff";

void WriteGolden(const std::string& prefix) {
  WriteContent(prefix + ".idx", FromHex(kGoldenIdx));
  WriteContent(prefix + ".bin", FromHex(kGoldenBin));
}

// A byte string with `value` at `offset`.
template <typename T>
std::string With(std::string bytes, size_t offset, T value) {
  std::memcpy(&bytes[offset], &value, sizeof(T));
  return bytes;
}

void ExpectError(const std::string& prefix, std::initializer_list<const char*> parts) {
  auto file = TokenFile::Open(prefix);
  ASSERT_FALSE(file.ok());
  for (const char* part : parts) {
    EXPECT_NE(file.status().message().find(part), std::string::npos) << file.status() << "\nlacks " << part;
  }
}

TEST(TokenFile, ReadsGoldenBytes) {
  const std::string prefix = Path("golden");
  WriteGolden(prefix);
  ASSERT_EQ(Content(prefix + ".idx").size(), 102u);
  auto file = TokenFile::Open(prefix);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tokens(), 9);
  EXPECT_EQ(file->documents(), 3);
  std::vector<int32_t> ids(9);
  ASSERT_TRUE(file->Read(0, ids).ok());
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 2, 3, 7, 9, 9, 9, 9, 65535}));
  std::vector<int32_t> middle(3);
  ASSERT_TRUE(file->Read(2, middle).ok());
  EXPECT_EQ(middle, (std::vector<int32_t>{3, 7, 9}));
}

// The golden file holds id 65535, which no vocabulary stored as u16 has; the rest of it is compared byte by byte.
TEST(TokenFile, WritesGoldenBytes) {
  const std::string prefix = Path("written");
  WritePair(prefix, {{1, 2, 3}, {7}, {9, 9, 9, 9, 65498}}, 65499);
  EXPECT_EQ(Content(prefix + ".idx"), FromHex(kGoldenIdx));
  EXPECT_EQ(Content(prefix + ".bin"), With<uint16_t>(FromHex(kGoldenBin), 16, 65498));
}

TEST(TokenFile, LargeVocabulariesAreStoredAsI32) {
  const std::string prefix = Path("wide");
  WritePair(prefix, {{65499, 5}, {}, {0}}, 65500);
  EXPECT_EQ(Content(prefix + ".bin"), FromHex("dbff0000 05000000 00000000"));
  EXPECT_EQ(Content(prefix + ".idx")[17], 4);
  auto file = TokenFile::Open(prefix);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->documents(), 3);
  std::vector<int32_t> ids(3);
  ASSERT_TRUE(file->Read(0, ids).ok());
  EXPECT_EQ(ids, (std::vector<int32_t>{65499, 5, 0}));
}

TEST(TokenFile, ReadsEveryIntegerTypeAndModes) {
  struct Case {
    uint8_t code;
    const char* bin;  // 3 tokens
    std::vector<int32_t> ids;
  };
  for (const Case& c :
       {Case{1, "01 02 ff", {1, 2, 255}}, Case{2, "01 02 ff", {1, 2, -1}}, Case{3, "0100 0200 ffff", {1, 2, -1}},
        Case{4, "01000000 02000000 ffffff7f", {1, 2, 0x7fffffff}},
        Case{5,
             "0100000000000000 0000000001000000 0000008000ffffff",
             {1, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}},
        Case{8, "0100 0200 ffff", {1, 2, 65535}}}) {
    const std::string prefix = Path("code" + std::to_string(c.code));
    std::string idx = FromHex("4d4d49444944580000 0100000000000000 00 0100000000000000 0200000000000000 03000000 "
                              "0000000000000000 0000000000000000 0100000000000000 00");
    idx[17] = static_cast<char>(c.code);
    WriteContent(prefix + ".idx", idx);  // its last byte is the mode of the one sequence
    WriteContent(prefix + ".bin", FromHex(c.bin));
    auto file = TokenFile::Open(prefix);
    ASSERT_TRUE(file.ok()) << file.status();
    std::vector<int32_t> ids(3);
    ASSERT_TRUE(file->Read(0, ids).ok());
    EXPECT_EQ(ids, c.ids) << "code " << int(c.code);
  }
}

TEST(TokenFile, MissingFilesAreNamed) {
  const std::string prefix = Path("absent");
  ExpectError(prefix, {"absent.idx", "missing", "trefoil tokenize"});
  WriteContent(prefix + ".idx", FromHex(kGoldenIdx));
  ExpectError(prefix, {"absent.bin", "missing"});
}

TEST(TokenFile, EveryCutIsDetected) {
  const std::string prefix = Path("cut");
  const std::string idx = FromHex(kGoldenIdx), bin = FromHex(kGoldenBin);
  WriteContent(prefix + ".bin", bin);
  for (size_t bytes = 0; bytes < idx.size(); ++bytes) {
    WriteContent(prefix + ".idx", idx.substr(0, bytes));
    ExpectError(prefix, {"cut.idx", "truncated", std::to_string(bytes).c_str()});
  }
  WriteContent(prefix + ".idx", idx);
  for (size_t bytes = 0; bytes < bin.size(); ++bytes) {
    WriteContent(prefix + ".bin", bin.substr(0, bytes));
    ExpectError(prefix, {"cut.bin", "truncated", (std::to_string(bytes) + " bytes").c_str(), "9 tokens", "18"});
  }
  WriteContent(prefix + ".bin", bin + "x");
  ExpectError(prefix, {"cut.bin", "19 bytes", "18"});
}

TEST(TokenFile, BrokenIndexesAreExplained) {
  const std::string prefix = Path("broken");
  const std::string idx = FromHex(kGoldenIdx);
  WriteContent(prefix + ".bin", FromHex(kGoldenBin));
  auto expect = [&](const std::string& content, std::initializer_list<const char*> parts) {
    WriteContent(prefix + ".idx", content);
    ExpectError(prefix, parts);
  };
  expect(With(idx, 0, 'X'), {"broken.idx", "584d49444944580000", "4d4d49444944580000", "MMIDIDX"});
  expect(With<uint64_t>(idx, 9, 2), {"version 2", "version 1"});
  expect(With<uint8_t>(idx, 17, 7), {"dtype code 7", "8 u16"});
  expect(With<uint64_t>(idx, 18, 4), {"truncated", "4 sequences"});
  expect(With<uint64_t>(idx, 18, ~uint64_t{0} / 3), {"truncated"});  // 12 x this overflows
  expect(With<uint64_t>(idx, 26, ~uint64_t{0} / 7), {"truncated"});
  expect(With<uint64_t>(idx, 26, 0), {"0 document boundaries"});
  expect(With<uint64_t>(idx, 26, 3), {"102 bytes", "94"});
  expect(With<int32_t>(idx, 38, -1), {"sequence 1", "length -1"});
  expect(With<int64_t>(idx, 54, 4), {"sequence 1", "byte 4", "make 6"});
  expect(With<int64_t>(idx, 70, 1), {"document 0", "sequence 1"});
  expect(With<int64_t>(idx, 86, 0), {"boundary 2", "0 after 1"});
  expect(With<int64_t>(idx, 94, 2), {"ends at sequence 2", "3 sequences"});
}

TEST(TokenFile, ZeroTokensAreRefused) {
  const std::string prefix = Path("empty");
  WritePair(prefix, {{}, {}}, 100);
  ExpectError(prefix, {"empty.idx", "0 tokens", "at least 1"});
}

TEST(TokenFileWriter, AnUnfinishedPairIsNeverSeen) {
  const std::string prefix = Path("pair");
  {
    auto writer = TokenFileWriter::Create(FileSystem::Posix(), prefix, 100);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->AddDocument(std::vector<int32_t>{1, 2}).ok());
    EXPECT_TRUE(Glob(prefix + "*.bin").empty());
    EXPECT_TRUE(Glob(prefix + "*.idx").empty());
  }
  EXPECT_TRUE(Glob(prefix + "*").empty());
  WritePair(prefix, {{1}}, 100);
  WritePair(prefix, {{2, 3}}, 100);  // replaces
  auto file = TokenFile::Open(prefix);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tokens(), 2);
  EXPECT_EQ(Glob(prefix + "*").size(), 2u);
}

// 2^31 + 3 u16 tokens, 4 GiB, as a sparse file: offsets and counts beyond 32 bits.
TEST(TokenFile, FilesOver4GiBAreRead) {
  const std::string prefix = Path("large");
  constexpr int64_t kHalf = 1 << 30, kTokens = 2 * kHalf + 3;
  std::string idx = FromHex("4d4d49444944580000 0100000000000000 08 0300000000000000 0200000000000000");
  auto append = [&](auto value) { idx.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
  for (int64_t length : {kHalf, kHalf, int64_t{3}}) append(static_cast<int32_t>(length));
  for (int64_t start : {int64_t{0}, 2 * kHalf, 4 * kHalf}) append(start);
  for (int64_t boundary : {0, 3}) append(boundary);
  WriteContent(prefix + ".idx", idx);
  const int fd = open((prefix + ".bin").c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(ftruncate(fd, 2 * kTokens), 0);
  const uint16_t last[2] = {11, 12};
  ASSERT_EQ(pwrite(fd, last, sizeof(last), 2 * (kTokens - 2)), 4);
  close(fd);
  auto file = TokenFile::Open(prefix);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tokens(), kTokens);
  std::vector<int32_t> ids(3);
  ASSERT_TRUE(file->Read(kTokens - 3, ids).ok());
  EXPECT_EQ(ids, (std::vector<int32_t>{0, 11, 12}));
  std::remove((prefix + ".bin").c_str());
}

// A file system that keeps counts instead of bytes, so that a pair over 2 GiB costs no disk.
class CountingFile : public WritableFile {
 public:
  CountingFile(int64_t* bytes, std::string* tail) : bytes_(bytes), tail_(tail) {}
  absl::Status Append(std::span<const std::byte> bytes) override {
    *bytes_ += static_cast<int64_t>(bytes.size());
    tail_->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return absl::OkStatus();
  }
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::Status Close() override { return absl::OkStatus(); }

 private:
  int64_t* bytes_;
  std::string* tail_;
};

class CountingFileSystem : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    const bool idx = path.find(".idx") != std::string::npos;
    return std::make_unique<CountingFile>(&bytes[idx], &tail[idx]);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> Extend(const std::string&, int64_t) override {
    return absl::InternalError("");
  }
  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string&) override { return absl::InternalError(""); }
  absl::Status Rename(const std::string&, const std::string&) override { return absl::OkStatus(); }
  absl::Status RenameIfFree(const std::string&, const std::string&) override { return absl::OkStatus(); }
  absl::Status MakeFolder(const std::string&) override { return absl::OkStatus(); }
  absl::Status FlushFolder(const std::string&) override { return absl::OkStatus(); }
  absl::Status Remove(const std::string&) override { return absl::OkStatus(); }
  bool Exists(const std::string&) override { return false; }
  absl::StatusOr<std::vector<std::string>> List(const std::string&) override { return std::vector<std::string>(); }
  absl::StatusOr<double> ModifiedSeconds(const std::string&) override { return 0.0; }
  absl::Status Touch(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<int64_t> FreeBytes(const std::string&) override { return int64_t{1} << 60; }

  int64_t bytes[2] = {};
  std::string tail[2];
};

TEST(TokenFileWriter, OffsetsBeyond2GiBAreRight) {
  CountingFileSystem fs;
  auto writer = TokenFileWriter::Create(fs, "large", 100000);
  ASSERT_TRUE(writer.ok());
  constexpr int64_t kDocument = 1 << 26, kDocuments = 9;  // 9 x 256 MiB
  const std::vector<int32_t> document(kDocument, 70000);
  for (int64_t i = 0; i < kDocuments; ++i) ASSERT_TRUE((*writer)->AddDocument(document).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  EXPECT_EQ((*writer)->bytes(), kDocuments * kDocument * 4);
  EXPECT_EQ(fs.bytes[0], kDocuments * kDocument * 4);
  ASSERT_EQ(fs.tail[1].size(), 34u + 12 * kDocuments + 8 * (kDocuments + 1));
  int64_t start;
  std::memcpy(&start, &fs.tail[1][34 + 4 * kDocuments + 8 * (kDocuments - 1)], 8);
  EXPECT_EQ(start, (kDocuments - 1) * kDocument * 4);
}

}  // namespace
}  // namespace trefoil
