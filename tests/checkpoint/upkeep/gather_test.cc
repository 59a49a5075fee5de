#include "checkpoint/upkeep/gather.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/directory.h"
#include "checkpoint/upkeep/verify.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "tests/checkpoint/example_state.h"
#include "tests/runtime/files/fault_file_system.h"
#include "tests/runtime/files/odd_file_systems.h"

namespace trefoil {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kHosts = 4;

class GatherTest : public ::testing::Test {
 protected:
  GatherTest() {
    folder_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    EXPECT_TRUE(fs_.Remove(folder_).ok());
    EXPECT_THAT(Save({&fs_, &fs_, &fs_, &fs_}, folder_ + "/run", state_, 7, {.cut_seed = 3}), Each(absl::OkStatus()));
    whole_ = CheckpointPath(folder_ + "/run", 7);
    to_ = folder_ + "/to";
    // What hosts with folders of their own have: each its rank's files, and copies of those of the next.
    for (int host = 0; host < kHosts; ++host) {
      hosts_.push_back(CheckpointPath(absl::StrCat(folder_, "/host", host), 7));
      std::filesystem::create_directories(hosts_.back());
      std::filesystem::copy(whole_ + "/manifest.json", hosts_.back());
      for (const int rank : {host, (host + 1) % kHosts}) {
        for (const char* end : {".bin", ".json"}) {
          std::filesystem::copy(absl::StrCat(whole_, "/rank-0000", rank, end), hosts_.back());
        }
      }
    }
  }
  absl::Status Gather(const std::vector<std::string>& from) { return GatherOn(fs_, from); }
  absl::Status GatherOn(FileSystem& fs, const std::vector<std::string>& from) {
    warnings_.clear();
    copied_ = 0;
    return GatherCheckpoint(fs, from, to_, "0a1b",
                            {.progress = [&](int64_t bytes) { copied_ += bytes; },
                             .warn = [&](const std::string& text) { warnings_.push_back(text); }});
  }
  // Empty if the copy is, byte by byte and name by name, what was saved.
  std::string Difference(const std::string& original) {
    const std::string copy = CheckpointPath(to_, 7);
    const std::vector<std::string> names = *fs_.List(original);
    if (*fs_.List(to_) != std::vector<std::string>{"step-00000007"}) return "not one folder";
    if (*fs_.List(copy) != names) return "other names";
    for (const std::string& name : names) {
      if (*ReadFile(fs_, copy + "/" + name) != *ReadFile(fs_, original + "/" + name)) return name;
    }
    return "";
  }
  void Forget() { ASSERT_TRUE(fs_.Remove(to_).ok()); }
  void ExpectNothing() {
    if (!fs_.Exists(to_)) return;
    EXPECT_THAT(*fs_.List(to_), ElementsAre());
  }

  FileSystem& fs_ = FileSystem::Posix();
  const std::vector<GlobalTensor> state_ = RandomState(1);
  std::string folder_, whole_, to_;
  std::vector<std::string> hosts_;
  std::vector<std::string> warnings_;
  int64_t copied_ = 0;
};

TEST_F(GatherTest, OfOneFolderAllOfIt) {
  EXPECT_EQ(Gather({whole_}), absl::OkStatus());
  EXPECT_EQ(Difference(whole_), "");
  EXPECT_EQ(copied_, *CheckpointBytesOnDisk(fs_, whole_));
  EXPECT_THAT(warnings_, ElementsAre());
  EXPECT_EQ(Load(CheckpointPath(to_, 7), state_, 3, 5), "");
  EXPECT_EQ(Gather({whole_}), absl::AlreadyExistsError(CheckpointPath(to_, 7) + ": exists already"));
  EXPECT_EQ(Difference(whole_), "");
}

TEST_F(GatherTest, OfTheSecondVersionOfTheFormat) {
  EXPECT_EQ(Gather({"tests/checkpoint/version_2"}), absl::OkStatus());
  EXPECT_EQ(Load(CheckpointPath(to_, 200), RandomState(18), 2, 5), "");
}

TEST_F(GatherTest, OfHostsThatHaveAPartEach) {
  for (const std::vector<std::string>& from :
       {hosts_, {hosts_[3], hosts_[1]}, {hosts_[0], hosts_[2]}, {hosts_[1], hosts_[2], hosts_[3]}}) {
    EXPECT_EQ(Gather(from), absl::OkStatus());
    EXPECT_EQ(Difference(whole_), "");
    EXPECT_THAT(warnings_, ElementsAre());
    Forget();
  }
  // Rank 3's files were on the two hosts that are lost.
  const absl::Status status = Gather({hosts_[0], hosts_[1]});
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.message(), AllOf(HasSubstr("1 of 4 ranks' files are whole in none of the folders:\n  "),
                                      HasSubstr(hosts_[0] + "/rank-00003.json: no such file"),
                                      HasSubstr(hosts_[1] + "/rank-00003.bin: no such file"), Not(HasSubstr("rank-00002"))));
  ExpectNothing();
}

TEST_F(GatherTest, WhatIsDamagedIsTakenFromTheOther) {
  for (const std::string name : {"manifest.json", "rank-00001.json", "rank-00001.bin"}) {
    const std::string path = hosts_[0] + "/" + name, good = *ReadFile(fs_, path);
    for (size_t at = 0; at < good.size(); at += 41) {
      FlipBit(path, static_cast<int64_t>(at));
      ASSERT_EQ(Gather(hosts_), absl::OkStatus());
      ASSERT_EQ(Difference(whole_), "") << path << " byte " << at;
      ASSERT_THAT(warnings_, ElementsAre(AllOf(HasSubstr(path), HasSubstr("damaged"), HasSubstr("; taken from "))));
      FlipBit(path, static_cast<int64_t>(at));
      Forget();
    }
    std::filesystem::resize_file(path, good.size() / 2);
    ASSERT_EQ(Gather(hosts_), absl::OkStatus());
    EXPECT_EQ(Difference(whole_), "");
    EXPECT_THAT(warnings_, ElementsAre(AllOf(HasSubstr(path), HasSubstr("truncated"))));
    Forget();
    std::filesystem::copy(whole_ + "/" + name, path, std::filesystem::copy_options::overwrite_existing);
  }
  // Of a file that is nowhere whole the name is said, and nothing is left.
  FlipBit(hosts_[0] + "/rank-00001.bin", 3);
  FlipBit(hosts_[1] + "/rank-00001.bin", 3);
  const absl::Status status = Gather(hosts_);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.message(), AllOf(HasSubstr(hosts_[0] + "/rank-00001.bin: damaged: tensor \""),
                                      HasSubstr(hosts_[1] + "/rank-00001.bin: damaged: tensor \"")));
  ExpectNothing();
}

// Of a large slice, of which each copy has lost another chunk.
TEST_F(GatherTest, ChunksOfTwoDamagedFilesMakeAWholeOne) {
  constexpr int64_t kMiB = 1 << 20, kRows = 9;
  std::vector<float> w(kRows * kMiB / 4);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 9973);
  const ShardedTensor all = {"w", DType::kFloat32, {kRows, kMiB / 4}, {{0, 0}, {kRows, kMiB / 4}},
                             reinterpret_cast<std::byte*>(w.data())};
  RunRanksAsThreads(1, [&](World& world) {
    const std::unique_ptr<Device> device = NewNullDevice();
    const auto group = world.NewGroupOfAll(*device);
    CheckpointContent content = ContentOf(7, {});
    content.parts = 1;
    content.part = [&](int) { return std::vector<ShardedTensor>{all}; };
    EXPECT_EQ(WriteCheckpoint(fs_, *group, folder_ + "/large", content), absl::OkStatus());
  });
  const std::string large = CheckpointPath(folder_ + "/large", 7), a = folder_ + "/a", b = folder_ + "/b";
  for (const std::string& copy : {a, b}) std::filesystem::copy(large, copy);
  FlipBit(a + "/rank-00000.bin", 2 * kMiB + kMiB / 2);
  FlipBit(a + "/rank-00000.bin", 7 * kMiB);
  FlipBit(b + "/rank-00000.bin", 5 * kMiB - 1);
  EXPECT_EQ(Gather({a, b}), absl::OkStatus());
  EXPECT_EQ(Difference(large), "");
  EXPECT_EQ(copied_, *CheckpointBytesOnDisk(fs_, large));
  // From the first damage on the other copy comes first.
  const auto warning = [](const std::string& damaged, const std::string& bytes, const std::string& other) {
    return AllOf(HasSubstr(damaged + "/rank-00000.bin: damaged"), HasSubstr(bytes), HasSubstr("; taken from " + other));
  };
  EXPECT_THAT(warnings_, ElementsAre(warning(a, "bytes 2097152 to 3145728", b), warning(b, "bytes 4194304 to 5242880", a),
                                     warning(a, "bytes 7340032 to 8388608", b)));
}

TEST_F(GatherTest, FoldersOfTwoSavesAreRefused) {
  EXPECT_THAT(Save({&fs_, &fs_}, folder_ + "/other", RandomState(2), 7, {}), Each(absl::OkStatus()));
  const std::string other = CheckpointPath(folder_ + "/other", 7);
  EXPECT_EQ(Gather({hosts_[0], other, hosts_[1]}),
            absl::FailedPreconditionError(other + "/manifest.json and " + hosts_[0] +
                                          "/manifest.json differ: they are not of the same save of step 7"));
  ExpectNothing();
  for (const std::string& host : {hosts_[0], hosts_[1]}) std::filesystem::remove(host + "/manifest.json");
  EXPECT_EQ(Gather({hosts_[0], hosts_[1]}),
            absl::DataLossError(hosts_[0] + "/manifest.json: no such file or directory; " + hosts_[1] +
                                "/manifest.json: no such file or directory"));
}

TEST_F(GatherTest, AskedBeforeItIsComplete) {
  GatherOptions options;
  options.may_commit = [&] {
    EXPECT_EQ(VerifyCheckpoint(fs_, PartialCheckpointPath(to_, 7, "0a1b"), {}).damage, std::vector<std::string>());
    return absl::FailedPreconditionError("taken over");
  };
  EXPECT_EQ(GatherCheckpoint(fs_, {whole_}, to_, "0a1b", options), absl::FailedPreconditionError("taken over"));
  ExpectNothing();
}

TEST_F(GatherTest, TooLittleRoomIsSaidBeforeAnythingIsCopied) {
  SmallFileSystem small(fs_, 1000);
  EXPECT_THAT(GatherOn(small, {whole_}).message(), HasSubstr("has 1000 B free, but the checkpoint takes "));
  EXPECT_EQ(copied_, 0);
  ExpectNothing();
  FaultFileSystem full(fs_);
  full.FillAfter(2000);
  EXPECT_THAT(GatherOn(full, {whole_}).message(), HasSubstr("no space left on device"));
  ExpectNothing();
}

class GatherCrashTest : public GatherTest, public ::testing::WithParamInterface<FaultFileSystem::Crash> {};

// With a damaged source, so that a part of what was written is taken back.
TEST_P(GatherCrashTest, AtEveryCallThereIsNoCopyOrAWholeOne) {
  FlipBit(hosts_[0] + "/rank-00001.bin", 3);
  int64_t none = 0, whole = 0;
  for (int64_t k = 0;; ++k) {
    ASSERT_TRUE(fs_.Remove(to_).ok());
    FaultFileSystem fault(fs_);
    fault.CrashAt(k, GetParam());
    const absl::Status status = GatherOn(fault, hosts_);
    fault.MakeFolder(folder_ + "/later").IgnoreError();  // and at the next call after it
    const auto complete = CompleteCheckpoints(fs_, to_);
    ASSERT_TRUE(complete.ok());
    if (complete->empty()) {
      ++none;
      ASSERT_FALSE(status.ok());
      ASSERT_EQ(Gather(hosts_), absl::OkStatus());  // what was left is gone then
    } else {
      ++whole;
    }
    ASSERT_EQ(Difference(whole_), "") << "call " << k;
    if (!fault.crashed()) break;
  }
  EXPECT_GT(none, 15);
  EXPECT_GT(whole, 1);
}

INSTANTIATE_TEST_SUITE_P(All, GatherCrashTest,
                         ::testing::Values(FaultFileSystem::Crash::kKill, FaultFileSystem::Crash::kPowerCut));

}  // namespace
}  // namespace trefoil
