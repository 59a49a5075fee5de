#include "runtime/files/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

namespace trefoil {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FileTest : public ::testing::Test {
 protected:
  FileTest() {
    folder_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    EXPECT_TRUE(fs_.Remove(folder_).ok());
    EXPECT_TRUE(fs_.MakeFolder(folder_).ok());
  }
  std::string In(const std::string& name) const { return folder_ + "/" + name; }

  FileSystem& fs_ = FileSystem::Posix();
  std::string folder_;
};

TEST_F(FileTest, WhatIsAppendedCanBeReadInParts) {
  auto file = fs_.Create(In("x"));
  ASSERT_TRUE(file.ok()) << file.status();
  for (const std::string_view part : {"abc", "", "defgh"}) {
    ASSERT_TRUE((*file)->Append(std::as_bytes(std::span(part))).ok());
  }
  ASSERT_TRUE((*file)->Close().ok());

  auto opened = fs_.Open(In("x"));
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->size(), 8);
  std::string middle(4, '?');
  ASSERT_TRUE((*opened)->Read(2, std::as_writable_bytes(std::span(middle))).ok());
  EXPECT_EQ(middle, "cdef");
  const absl::Status past = (*opened)->Read(6, std::as_writable_bytes(std::span(middle)));
  EXPECT_EQ(past.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(past.message(), In("x") + ": ends at byte 8, but 2 more bytes were expected");
}

TEST_F(FileTest, AFileIsExtendedFromWhereItIsAskedTo) {
  const auto extend = [&](int64_t bytes, std::string_view more) {
    auto file = fs_.Extend(In("x"), bytes);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->Append(std::as_bytes(std::span(more))).ok());
    ASSERT_TRUE((*file)->Flush().ok());
    ASSERT_TRUE((*file)->Close().ok());
  };
  extend(0, "abc");
  extend(3, "def");
  EXPECT_EQ(*ReadFile(fs_, In("x")), "abcdef");
  extend(4, "X");
  EXPECT_EQ(*ReadFile(fs_, In("x")), "abcdX");
  extend(100, "Y");
  EXPECT_EQ(*ReadFile(fs_, In("x")), "abcdXY");
  EXPECT_THAT(fs_.Extend(In("none/x"), 0).status().message(), HasSubstr("none/x: no such file or directory"));
}

TEST_F(FileTest, ErrorsNameThePathAndSayWhatTheSystemSaid) {
  const absl::Status missing = fs_.Open(In("none")).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(missing.message(), In("none") + ": no such file or directory");
  EXPECT_EQ(ReadFile(fs_, folder_).status().message(), folder_ + ": is a directory");
  EXPECT_THAT(fs_.Create(In("none/x")).status().message(), HasSubstr("none/x: no such file or directory"));
  EXPECT_THAT(fs_.Rename(In("none"), In("y")).message(), HasSubstr("none -> "));
  EXPECT_EQ(fs_.List(In("none")).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(WriteFileAtomically(fs_, In("x"), "1").ok());
  EXPECT_THAT(fs_.MakeFolder(In("x/y")).message(), HasSubstr("x: not a directory"));
}

TEST_F(FileTest, FullDiskIsSaid) {
  if (!fs_.Exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  auto file = fs_.Create("/dev/full");
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::Status status = (*file)->Append(std::as_bytes(std::span(std::string_view("abc"))));
  EXPECT_EQ(status.message(), "/dev/full: no space left on device");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(FileTest, FoldersAreMadeListedMovedAndRemovedWithAllTheyHold) {
  ASSERT_TRUE(fs_.MakeFolder(In("a/b/c/")).ok());
  ASSERT_TRUE(fs_.MakeFolder(In("a/b/c")).ok());
  ASSERT_TRUE(WriteFileAtomically(fs_, In("a/b/2"), "two").ok());
  ASSERT_TRUE(WriteFileAtomically(fs_, In("a/b/1"), "one").ok());
  ASSERT_EQ(symlink("/nowhere", In("a/b/link").c_str()), 0);
  EXPECT_THAT(*fs_.List(In("a/b")), ElementsAre("1", "2", "c", "link"));

  ASSERT_TRUE(fs_.Rename(In("a/b"), In("d")).ok());
  EXPECT_EQ(*ReadFile(fs_, In("d/2")), "two");
  ASSERT_TRUE(fs_.Remove(In("d")).ok());
  EXPECT_FALSE(fs_.Exists(In("d")));
  EXPECT_TRUE(fs_.Remove(In("d")).ok());  // absent is fine
  EXPECT_THAT(*fs_.List(In("a")), ElementsAre());
}

TEST_F(FileTest, AtomicWriteReplacesAndLeavesNothingBeside) {
  ASSERT_TRUE(WriteFileAtomically(fs_, In("x"), "old and long").ok());
  ASSERT_TRUE(WriteFileAtomically(fs_, In("x"), "new").ok());
  EXPECT_EQ(*ReadFile(fs_, In("x")), "new");
  EXPECT_THAT(*fs_.List(folder_), ElementsAre("x"));
}

TEST_F(FileTest, APipeIsReadToItsEnd) {
  ASSERT_EQ(mkfifo(In("pipe").c_str(), 0600), 0);
  const std::string text = std::string(100'000, 'x') + "end";  // more than a pipe holds
  std::thread writer([&] { std::ofstream(In("pipe")) << text; });
  const auto read = ReadFile(fs_, In("pipe"));
  writer.join();
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, text);
  const auto proc = ReadFile(fs_, "/proc/self/status");  // says that it has 0 bytes
  ASSERT_TRUE(proc.ok()) << proc.status();
  EXPECT_THAT(*proc, HasSubstr("file_test"));
}

TEST_F(FileTest, AFileThatIsChangedWhileOpenIsSeen) {
  const auto open = [&] {
    EXPECT_TRUE(WriteFileAtomically(fs_, In("x"), "0123456789").ok());
    return *fs_.Open(In("x"));
  };
  auto file = open();
  EXPECT_TRUE(file->Unchanged().ok());
  ASSERT_EQ(truncate(In("x").c_str(), 4), 0);
  EXPECT_THAT(file->Unchanged().message(), HasSubstr(In("x") + ": has 4 bytes, had 10 when it was opened"));
  std::string bytes(10, '?');
  EXPECT_THAT(file->Read(0, std::as_writable_bytes(std::span(bytes))).message(), HasSubstr("ends at byte 4"));
  file = open();
  usleep(20'000);  // the clock of file times is coarse
  std::fstream(In("x"), std::ios::in | std::ios::out).seekp(3).put('x');
  EXPECT_THAT(file->Unchanged().message(), HasSubstr(In("x") + ": was written to after it was opened"));
  file = open();
  EXPECT_TRUE(WriteFileAtomically(fs_, In("x"), "another").ok());
  EXPECT_TRUE(file->Unchanged().ok()) << "what is open is still whole";
}

TEST_F(FileTest, MoreFilesThanTheSoftLimitCanBeOpen) {
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  struct rlimit low = before;
  low.rlim_cur = 40;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  ASSERT_TRUE(WriteFileAtomically(fs_, In("x"), "x").ok());
  std::vector<std::unique_ptr<ReadableFile>> files;
  for (int i = 0; i < 60; ++i) {
    auto file = fs_.Open(In("x"));
    ASSERT_TRUE(file.ok()) << i << " " << file.status();
    files.push_back(*std::move(file));
  }
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST_F(FileTest, GlobIsSortedAndEmptyWithoutMatch) {
  for (const char* name : {"t-2.idx", "t-1.idx", "t-1.bin"}) ASSERT_TRUE(WriteFileAtomically(fs_, In(name), "").ok());
  EXPECT_THAT(Glob(In("t-*.idx")), ElementsAre(In("t-1.idx"), In("t-2.idx")));
  EXPECT_THAT(Glob(In("u*")), ElementsAre());
}

}  // namespace
}  // namespace trefoil
