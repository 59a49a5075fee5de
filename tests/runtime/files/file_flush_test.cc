// What the file system flushes, seen from below: this program's own fsync notes the path of each call.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/files/file.h"

namespace {

std::vector<std::string>& Flushed() {
  static auto& flushed = *new std::vector<std::string>;
  return flushed;
}

}  // namespace

extern "C" int fsync(int fd) {
  char path[4096] = {};
  if (readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof(path) - 1) > 0) Flushed().push_back(path);
  return 0;
}

namespace trefoil {
namespace {

using ::testing::ElementsAre;

TEST(FileFlush, ContentByCloseNamesByTheirFolder) {
  FileSystem& fs = FileSystem::Posix();
  const std::string folder = testing::TempDir() + "flush";
  ASSERT_TRUE(fs.Remove(folder).ok());
  ASSERT_TRUE(fs.MakeFolder(folder).ok());
  EXPECT_THAT(Flushed(), ElementsAre());

  ASSERT_TRUE(MakeFolderDurably(fs, folder + "/a/b/").ok());
  EXPECT_THAT(Flushed(), ElementsAre(folder, folder + "/a"));
  Flushed().clear();
  ASSERT_TRUE(MakeFolderDurably(fs, folder + "/a/b").ok());
  EXPECT_THAT(Flushed(), ElementsAre());

  auto file = fs.Create(folder + "/a/x");
  ASSERT_TRUE((*file)->Flush().ok());
  EXPECT_THAT(Flushed(), ElementsAre(folder + "/a/x"));
  Flushed().clear();
  ASSERT_TRUE((*file)->Append(std::as_bytes(std::span(std::string_view("x")))).ok());
  ASSERT_TRUE((*file)->Close().ok());
  EXPECT_THAT(Flushed(), ElementsAre(folder + "/a/x"));
  Flushed().clear();
  ASSERT_TRUE(RenameDurably(fs, folder + "/a/x", folder + "/a/y").ok());
  EXPECT_THAT(Flushed(), ElementsAre(folder + "/a"));
  Flushed().clear();
  ASSERT_TRUE(RenameDurably(fs, folder + "/a/y", folder + "/a/b/y").ok());
  EXPECT_THAT(Flushed(), ElementsAre(folder + "/a/b", folder + "/a"));
  Flushed().clear();
  ASSERT_TRUE(fs.FlushFolder(folder + "/a").ok());
  EXPECT_THAT(Flushed(), ElementsAre(folder + "/a"));
  Flushed().clear();
  ASSERT_TRUE(WriteFileAtomically(fs, folder + "/z", "z").ok());
  EXPECT_THAT(Flushed(), ElementsAre(folder + "/z.partial", folder));
}

}  // namespace
}  // namespace trefoil
