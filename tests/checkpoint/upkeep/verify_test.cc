#include "checkpoint/upkeep/verify.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "checkpoint/part.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "runtime/files/crc32c.h"
#include "tests/checkpoint/example_state.h"

namespace trefoil {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class VerifyTest : public ::testing::TestWithParam<int> {
 protected:
  VerifyTest() {
    folder_ = testing::TempDir() + "/verify";
    EXPECT_TRUE(fs_.Remove(folder_).ok());
    EXPECT_THAT(Save({&fs_, &fs_, &fs_}, folder_, state_, 1, {.cut_seed = 3}), Each(absl::OkStatus()));
    checkpoint_ = CheckpointPath(folder_, 1);
  }
  // By as many threads as the parameter says; all bytes are counted, good or not.
  Verified Verify() {
    int64_t counted = 0;
    const Verified verified =
        VerifyCheckpoint(fs_, checkpoint_, {.threads = GetParam(), .progress = [&](int64_t bytes) { counted += bytes; }});
    const int64_t all = *CheckpointBytesOnDisk(fs_, checkpoint_);
    // A manifest that is damaged says nothing of the rest.
    const bool has_manifest = verified.whole() || !absl::StrContains(verified.damage[0], "manifest.json");
    EXPECT_EQ(counted, has_manifest ? all : 0);
    EXPECT_EQ(verified.whole(), verified.bytes == all);
    return verified;
  }
  std::string In(const std::string& name) { return checkpoint_ + "/" + name; }
  std::string Read(const std::string& name) { return *ReadFile(fs_, In(name)); }
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(In(name), std::ios::binary) << content;
  }

  FileSystem& fs_ = FileSystem::Posix();
  const std::vector<GlobalTensor> state_ = RandomState(1);
  std::string folder_, checkpoint_;
};

TEST_P(VerifyTest, OfWhatWasWrittenEveryByteIsRead) {
  const Verified verified = Verify();
  EXPECT_THAT(verified.damage, ElementsAre());
  checkpoint_ = "tests/checkpoint/version_2";
  EXPECT_THAT(Verify().damage, ElementsAre());
}

// What the reader says who wants all of it.
TEST_P(VerifyTest, AFlippedBitAnywhereIsOneLine) {
  const std::vector<std::string> names = *fs_.List(checkpoint_);
  EXPECT_EQ(names.size(), 7u);
  for (const std::string& name : names) {
    const std::string good = Read(name);
    for (size_t at = 0; at < good.size(); at += 13) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
      Write(name, bad);
      const Verified verified = Verify();
      ASSERT_THAT(verified.damage, ElementsAre(AllOf(HasSubstr(In(name)), HasSubstr("damaged")))) << "byte " << at;
      ASSERT_THAT(Load(checkpoint_, state_, 1, 0), HasSubstr(verified.damage[0]));
    }
    Write(name, good);
  }
  EXPECT_TRUE(Verify().whole());
}

TEST_P(VerifyTest, AllThatIsDamagedIsNamedByFile) {
  const std::string first = Read("rank-00000.bin"), part = Read("rank-00001.json"), last = Read("rank-00002.bin");
  Write("rank-00000.bin", first + "x");
  Write("rank-00001.json", part.substr(0, 100));
  std::string bad = last;
  bad.front() = static_cast<char>(bad.front() ^ 1);
  bad.back() = static_cast<char>(bad.back() ^ 1);
  Write("rank-00002.bin", bad);
  EXPECT_THAT(Verify().damage,
              ElementsAre(absl::StrCat(In("rank-00000.bin"), ": too long: ", first.size() + 1, " bytes, but must be ",
                                       first.size()),
                          HasSubstr(In("rank-00001.json") + ": truncated"),
                          AllOf(HasSubstr(In("rank-00002.bin")), HasSubstr("bytes 0 to ")),
                          AllOf(HasSubstr(In("rank-00002.bin")), HasSubstr(absl::StrCat(" to ", last.size(), ":")))));
  ASSERT_TRUE(fs_.Remove(In("rank-00002.bin")).ok());
  EXPECT_THAT(Verify().damage, ElementsAre(HasSubstr("too long"), HasSubstr("truncated"),
                                           In("rank-00002.bin") + ": no such file or directory"));
  ASSERT_TRUE(fs_.Remove(In("manifest.json")).ok());
  EXPECT_THAT(VerifyCheckpoint(fs_, checkpoint_, {}).damage, ElementsAre(In("manifest.json") + ": no such file or directory"));
}

// Whose checksums are right, but which do not fit together.
TEST_P(VerifyTest, SlicesThatDoNotFitAreNamed) {
  const std::string good = Read("manifest.json"), good_part = Read("rank-00000.json");
  const auto change = [&](const std::function<void(std::vector<ManifestSlice>*)>& change_slices) {
    Manifest manifest = *DecodeManifest(good, "");
    ManifestPart part = *DecodePart(good_part, "", manifest, manifest.parts[0]);
    for (ManifestTensor& tensor : part.tensors) {
      if (tensor.name == "embedding") change_slices(&tensor.slices);
    }
    const std::string text = EncodePart(part);
    manifest.parts[0].part_bytes = static_cast<int64_t>(text.size());
    manifest.parts[0].part_crc = Crc32c(text);
    Write("rank-00000.json", text);
    Write("manifest.json", EncodeManifest(manifest));
    return VerifyCheckpoint(fs_, checkpoint_, {.threads = GetParam()}).damage;
  };
  const auto move = [](std::vector<ManifestSlice>* slices) {
    int64_t& row = slices->front().box.offset[0];
    row = row == 0 ? 1 : row - 1;
  };
  EXPECT_THAT(change(move), ElementsAre(AllOf(HasSubstr(In("manifest.json") + ": tensor \"embedding\" [5, 9]: "),
                                              HasSubstr("overlap"))));
  EXPECT_THAT(change([](std::vector<ManifestSlice>* slices) { slices->pop_back(); }),
              ElementsAre(AllOf(HasSubstr(In("rank-00000.bin") + ": bytes "), HasSubstr(" are of no slice"))));
  EXPECT_THAT(change([](std::vector<ManifestSlice>* slices) { slices->push_back(slices->front()); }),
              ElementsAre(AllOf(HasSubstr(In("rank-00000.bin") + ": bytes "), HasSubstr(" are of two slices"))));
}

TEST_P(VerifyTest, FilesAreLookedForByNameAndSize) {
  EXPECT_EQ(LookForFiles(fs_, checkpoint_)->there, 3);
  EXPECT_EQ(LookForFiles(fs_, checkpoint_)->wrong, "");
  const std::string data = Read("rank-00001.bin"), part = Read("rank-00002.json");
  Write("rank-00001.bin", std::string(data.size(), 'x'));
  EXPECT_EQ(LookForFiles(fs_, checkpoint_)->there, 3) << "elements are not read";
  Write("rank-00001.bin", data.substr(1));
  EXPECT_EQ(LookForFiles(fs_, checkpoint_)->there, 2);
  EXPECT_THAT(LookForFiles(fs_, checkpoint_)->wrong, HasSubstr(In("rank-00001.bin") + ": truncated"));
  Write("rank-00001.bin", data);
  Write("rank-00002.json", part + "\n");
  EXPECT_EQ(LookForFiles(fs_, checkpoint_)->there, 2);
  EXPECT_EQ(LookForFiles(fs_, checkpoint_)->wrong, absl::StrCat(In("rank-00002.json"), ": has ", part.size() + 1,
                                                               " bytes, but must have ", part.size()));
  ASSERT_TRUE(fs_.Remove(In("rank-00002.json")).ok());
  EXPECT_EQ(LookForFiles(fs_, checkpoint_)->wrong, In("rank-00002.json") + ": no such file or directory");
  EXPECT_EQ(LookForFiles(fs_, "tests/checkpoint/version_2")->there, 3);
  Write("manifest.json", "x");
  EXPECT_TRUE(absl::IsDataLoss(LookForFiles(fs_, checkpoint_).status()));
}

// A slice of many chunks, which several threads share.
TEST_P(VerifyTest, EachDamagedChunkIsNamed) {
  constexpr int64_t kMiB = 1 << 20, kRows = 150;  // chunks of 3 MiB
  std::vector<float> w(kRows * kMiB / 4);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 9973);
  const ShardedTensor whole = {"w", DType::kFloat32, {kRows, kMiB / 4}, {{0, 0}, {kRows, kMiB / 4}},
                               reinterpret_cast<std::byte*>(w.data())};
  RunRanksAsThreads(1, [&](World& world) {
    const std::unique_ptr<Device> device = NewNullDevice();
    const auto group = world.NewGroupOfAll(*device);
    CheckpointContent content = ContentOf(2, {});
    content.parts = 1;
    content.part = [&](int) { return std::vector<ShardedTensor>{whole}; };
    EXPECT_EQ(WriteCheckpoint(fs_, *group, folder_, content), absl::OkStatus());
  });
  checkpoint_ = CheckpointPath(folder_, 2);
  EXPECT_TRUE(Verify().whole());
  std::fstream file(In("rank-00000.bin"), std::ios::in | std::ios::out | std::ios::binary);
  for (const int64_t at : {3 * kMiB, 8 * kMiB + 7, 149 * kMiB}) {
    file.seekp(at);
    file.put('x');
  }
  file.close();
  const Verified verified = Verify();
  const auto line = [&](int64_t first) {
    return HasSubstr(absl::StrFormat("%s: damaged: tensor \"w\", slice [0, 0]+[150, 262144], bytes %d to %d: CRC32C is ",
                                     In("rank-00000.bin"), first * kMiB, (first + 3) * kMiB));
  };
  EXPECT_THAT(verified.damage, ElementsAre(line(3), line(6), line(147)));
  EXPECT_EQ(verified.bytes, *CheckpointBytesOnDisk(fs_, checkpoint_) - 9 * kMiB);
}

INSTANTIATE_TEST_SUITE_P(Threads, VerifyTest, ::testing::Values(1, 5));

}  // namespace
}  // namespace trefoil
