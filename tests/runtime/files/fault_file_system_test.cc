#include "tests/runtime/files/fault_file_system.h"

#include <gtest/gtest.h>

namespace trefoil {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

class FaultFileSystemTest : public ::testing::Test {
 protected:
  FaultFileSystemTest() {
    folder_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    EXPECT_TRUE(FileSystem::Posix().Remove(folder_).ok());
    EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder_).ok());
  }
  std::string folder_;
  FaultFileSystem fs_{FileSystem::Posix()};
};

TEST_F(FaultFileSystemTest, CrashLeavesHalfOfTheAppendAndStopsEverything) {
  fs_.CrashAt(2);
  auto file = fs_.Create(folder_ + "/x");
  ASSERT_TRUE((*file)->Append(Bytes("abcd")).ok());
  EXPECT_EQ((*file)->Append(Bytes("efgh")).message(), folder_ + "/x: crashed (injected)");
  EXPECT_TRUE(fs_.crashed());
  EXPECT_FALSE((*file)->Append(Bytes("ijkl")).ok());
  EXPECT_FALSE((*file)->Close().ok());
  EXPECT_FALSE(fs_.Rename(folder_ + "/x", folder_ + "/y").ok());
  EXPECT_FALSE(fs_.Remove(folder_ + "/x").ok());
  EXPECT_FALSE(fs_.Open(folder_ + "/x").ok());
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), folder_ + "/x"), "abcdef");
}

TEST_F(FaultFileSystemTest, PowerCutEmptiesWhatWasNotFlushedUnderItsNewNameToo) {
  fs_.CrashAt(10, FaultFileSystem::Crash::kPowerCut);
  ASSERT_TRUE(fs_.MakeFolder(folder_ + "/a").ok());
  auto flushed = fs_.Create(folder_ + "/a/flushed"), open = fs_.Create(folder_ + "/a/open");
  ASSERT_TRUE((*flushed)->Append(Bytes("abcd")).ok());
  ASSERT_TRUE((*open)->Append(Bytes("abcd")).ok());
  ASSERT_TRUE((*flushed)->Close().ok());
  ASSERT_TRUE(fs_.FlushFolder(folder_ + "/a").ok());
  ASSERT_TRUE(fs_.Rename(folder_ + "/a", folder_ + "/b").ok());
  ASSERT_TRUE(fs_.FlushFolder(folder_).ok());
  ASSERT_TRUE((*open)->Append(Bytes("efgh")).ok());
  EXPECT_FALSE((*open)->Close().ok());
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), folder_ + "/b/flushed"), "abcd");
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), folder_ + "/b/open"), "");
}

TEST_F(FaultFileSystemTest, PowerCutUndoesChangesOfNamesInFoldersThatWereNotFlushed) {
  FileSystem& real = FileSystem::Posix();
  for (const char* name : {"/moved", "/replaced", "/removed", "/kept"}) {
    ASSERT_TRUE(WriteFileAtomically(real, folder_ + name, name).ok());
  }
  ASSERT_TRUE(fs_.MakeFolder(folder_ + "/f").ok());
  ASSERT_TRUE(fs_.FlushFolder(folder_).ok());
  ASSERT_TRUE((*fs_.Create(folder_ + "/f/flushed"))->Close().ok());
  ASSERT_TRUE(fs_.FlushFolder(folder_ + "/f").ok());
  ASSERT_TRUE((*fs_.Create(folder_ + "/f/new"))->Close().ok());
  ASSERT_TRUE(fs_.MakeFolder(folder_ + "/g/h").ok());
  ASSERT_TRUE(fs_.Rename(folder_ + "/moved", folder_ + "/f/moved").ok());
  ASSERT_TRUE(fs_.FlushFolder(folder_ + "/f").ok());  // only one of the two folders
  ASSERT_TRUE(fs_.Rename(folder_ + "/kept", folder_ + "/replaced").ok());
  ASSERT_TRUE(fs_.Remove(folder_ + "/removed").ok());
  ASSERT_TRUE(fs_.Rename(folder_ + "/f", folder_ + "/e").ok());
  ASSERT_TRUE((*fs_.Create(folder_ + "/e/late"))->Close().ok());
  fs_.CrashAt(fs_.calls(), FaultFileSystem::Crash::kPowerCut);
  EXPECT_FALSE(fs_.FlushFolder(folder_).ok());
  EXPECT_EQ(*real.List(folder_), (std::vector<std::string>{"f", "kept", "moved", "replaced"}));
  EXPECT_EQ(*real.List(folder_ + "/f"), (std::vector<std::string>{"flushed", "new"}));
  for (const char* name : {"/moved", "/replaced", "/kept"}) EXPECT_EQ(*ReadFile(real, folder_ + name), name);
}

TEST_F(FaultFileSystemTest, PowerCutLeavesOfAFileThatGrowsWhatWasFlushed) {
  FileSystem& real = FileSystem::Posix();
  for (const char* name : {"/flushed", "/grown", "/cut"}) {
    ASSERT_TRUE(WriteFileAtomically(real, folder_ + name, "abcd").ok());
  }
  auto flushed = fs_.Extend(folder_ + "/flushed", 4), grown = fs_.Extend(folder_ + "/grown", 4);
  ASSERT_TRUE((*flushed)->Append(Bytes("ef")).ok());
  ASSERT_TRUE((*grown)->Append(Bytes("ef")).ok());
  ASSERT_TRUE((*flushed)->Flush().ok());
  ASSERT_TRUE((*flushed)->Append(Bytes("gh")).ok());
  ASSERT_TRUE((*fs_.Extend(folder_ + "/cut", 2))->Append(Bytes("C")).ok());
  ASSERT_TRUE((*fs_.Extend(folder_ + "/cut", 3))->Append(Bytes("D")).ok());
  ASSERT_TRUE((*fs_.Extend(folder_ + "/new", 0))->Append(Bytes("a")).ok());
  EXPECT_EQ(*ReadFile(real, folder_ + "/cut"), "abCD");
  fs_.CrashAt(fs_.calls(), FaultFileSystem::Crash::kPowerCut);
  EXPECT_FALSE((*flushed)->Flush().ok());
  EXPECT_EQ(*ReadFile(real, folder_ + "/flushed"), "abcdef");
  EXPECT_EQ(*ReadFile(real, folder_ + "/grown"), "abcd");
  EXPECT_EQ(*ReadFile(real, folder_ + "/cut"), "ab");
  EXPECT_FALSE(real.Exists(folder_ + "/new"));
}

TEST_F(FaultFileSystemTest, FullDiskTakesWhatFits) {
  fs_.FillAfter(6);
  auto file = fs_.Create(folder_ + "/x");
  ASSERT_TRUE((*file)->Append(Bytes("abcd")).ok());
  const absl::Status full = (*file)->Append(Bytes("efgh"));
  EXPECT_EQ(full.message(), folder_ + "/x: no space left on device");
  fs_.FillAfter(1);
  EXPECT_TRUE((*file)->Append(Bytes("g")).ok());
  ASSERT_TRUE((*file)->Close().ok());
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), folder_ + "/x"), "abcdefg");
}

TEST_F(FaultFileSystemTest, RemovingAFolderCountsEachEntry) {
  for (const char* name : {"/a/1", "/a/2"}) {
    ASSERT_TRUE(fs_.MakeFolder(folder_ + "/a").ok());
    ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), folder_ + name, "x").ok());
  }
  fs_.CrashAt(3);
  EXPECT_EQ(fs_.calls(), 2);
  EXPECT_FALSE(fs_.Remove(folder_ + "/a").ok());
  EXPECT_EQ(*FileSystem::Posix().List(folder_ + "/a"), std::vector<std::string>{"2"});
}

}  // namespace
}  // namespace trefoil
