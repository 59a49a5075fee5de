// Checkpoints in folders of hosts' own: what four hosts saved is loaded by those that are left, in any order, on any layout.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/directory.h"
#include "checkpoint/host_copies.h"
#include "checkpoint/on_hosts.h"
#include "checkpoint/reader.h"
#include "checkpoint/storage.h"
#include "checkpoint/writer.h"
#include "parallel/collectives/world.h"
#include "tests/checkpoint/example_state.h"
#include "tests/parallel/flipping_world.h"
#include "tests/runtime/files/fault_file_system.h"
#include "tests/runtime/files/odd_file_systems.h"

namespace trefoil {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kDisk[] = "/local", kFolder[] = "/local/run";

// A host's name for each rank: {"a", "a", "b"}.
using Names = std::vector<std::string>;

class OnHostsTest : public ::testing::Test {
 protected:
  OnHostsTest() {
    root_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    EXPECT_TRUE(FileSystem::Posix().Remove(root_).ok());
  }
  // The disk of host `name` as it is on this machine.
  std::string Real(const std::string& name) { return root_ + "/" + name; }
  std::string RealCheckpoint(const std::string& name, int64_t step) { return CheckpointPath(Real(name) + "/run", step); }
  void Lose(const std::string& name) { EXPECT_TRUE(FileSystem::Posix().Remove(Real(name)).ok()); }
  // Changes a byte in the middle.
  static void Damage(const std::string& path) {
    FlipBit(path, static_cast<int64_t>(ReadFile(FileSystem::Posix(), path)->size()) / 2);
  }

  void OnRanks(const Names& hosts, const std::function<void(World&, FileSystem&)>& body) {
    RunRanksAsThreads(static_cast<int>(hosts.size()), [&](World& world) {
      SeparateFileSystem fs(FileSystem::Posix(), kDisk, Real(hosts[static_cast<size_t>(world.rank())]));
      body(world, fs);
    }, {.hosts = hosts});
  }

  std::vector<absl::Status> Save(const Names& hosts, int copies, const std::vector<GlobalTensor>& state, int64_t step,
                                 uint64_t cut_seed) {
    std::vector<absl::Status> statuses(hosts.size());
    OnRanks(hosts, [&](World& world, FileSystem& fs) {
      const RankSlices mine = CutForRank(state, world.rank(), world.size(), cut_seed, /*filled=*/true);
      statuses[static_cast<size_t>(world.rank())] =
          WriteCheckpoint(fs, world.all(), CheckpointStorage::OfHosts(kFolder, copies), ContentOf(step, mine.slices));
    });
    return statuses;
  }

  // The steps that are found, newest first, and rank 0's notes. Of every rank: the same.
  std::vector<int64_t> Find(const Names& hosts, std::vector<std::string>* notes) {
    std::vector<std::vector<int64_t>> steps(hosts.size());
    OnRanks(hosts, [&](World& world, FileSystem& fs) {
      std::vector<std::string> mine;
      const auto found = FindOnHosts(fs, world.all(), kFolder, &mine);
      ASSERT_EQ(found.status(), absl::OkStatus());
      for (const auto& checkpoint : *found) steps[static_cast<size_t>(world.rank())].push_back(StepOf(checkpoint.path));
      if (world.rank() == 0) *notes = mine;
    });
    EXPECT_THAT(steps, Each(steps[0]));
    return steps[0];
  }

  // Loads the newest, every rank its slices, and compares every byte. Empty if all is well, else the first error.
  std::string Load(const Names& hosts, const std::vector<GlobalTensor>& state, uint64_t cut_seed) {
    std::vector<std::string> errors(hosts.size());
    OnRanks(hosts, [&](World& world, FileSystem& fs) {
      errors[static_cast<size_t>(world.rank())] = LoadOne(world, fs, state, cut_seed);
    });
    for (const std::string& error : errors) {
      if (!error.empty()) return error;
    }
    return "";
  }

 private:
  static std::string LoadOne(World& world, FileSystem& fs, const std::vector<GlobalTensor>& state, uint64_t cut_seed) {
    std::vector<std::string> notes;
    const auto found = FindOnHosts(fs, world.all(), kFolder, &notes);
    if (!found.ok() || found->empty()) return "not found";
    auto reader = CheckpointReader::OpenOnAll(fs, world.all(), found->front());
    if (!reader.ok()) return std::string(reader.status().message());
    const RankSlices mine = CutForRank(state, world.rank(), world.size(), cut_seed, /*filled=*/false);
    if (const auto located = reader->Locate(world.all(), mine.slices); !located.ok()) return std::string(located.message());
    // A tensor at a time; a rank that has none of it reads nothing with the others.
    for (const GlobalTensor& tensor : state) {
      std::vector<ShardedTensor> of_tensor;
      for (const ShardedTensor& slice : mine.slices) {
        if (slice.name == tensor.name) of_tensor.push_back(slice);
      }
      if (const auto read = reader->ReadOnHosts(world.all(), of_tensor); !read.ok()) return std::string(read.message());
    }
    const RankSlices expected = CutForRank(state, world.rank(), world.size(), cut_seed, /*filled=*/true);
    return mine.memory == expected.memory ? "" : absl::StrCat("other bytes on rank ", world.rank());
  }

  std::string root_;
};

const Names kFour = {"a", "a", "b", "b", "c", "c", "d", "d"};

TEST_F(OnHostsTest, AnyHostMayBeLost) {
  const std::vector<GlobalTensor> state = RandomState(1);
  for (const std::string lost : {"a", "b", "c", "d", "none"}) {
    ASSERT_THAT(Save(kFour, /*copies=*/2, state, 10, /*cut_seed=*/3), Each(absl::OkStatus()));
    Lose(lost);
    Names left;
    for (const std::string name : {"d", "b", "c", "a"}) {
      if (name != lost) left.insert(left.end(), name == "b" ? 1 : 2, name);
    }
    std::vector<std::string> notes;
    ASSERT_THAT(Find(left, &notes), ElementsAre(10)) << lost;
    EXPECT_THAT(notes, IsEmpty());
    for (const uint64_t cut_seed : {3, 4, 5}) ASSERT_EQ(Load(left, state, cut_seed), "") << lost;
    // On hosts that are new, beside those that are left.
    left.insert(left.begin(), {"new", "new"});
    ASSERT_EQ(Load(left, state, 6), "") << lost;
  }
}

TEST_F(OnHostsTest, FilesLargerThanABlockTravel) {
  const std::vector<GlobalTensor> state = RandomState(2, /*scale=*/60000);  // several MB a rank
  ASSERT_THAT(Save({"a", "b"}, 2, state, 1, 7), Each(absl::OkStatus()));
  Lose("a");
  EXPECT_EQ(Load({"a", "a", "b"}, state, 8), "");
}

TEST_F(OnHostsTest, FilesLieOnTheirHostAndOnTheNextOnes) {
  ASSERT_THAT(Save({"a", "b", "b", "c"}, 2, RandomState(1), 5, 3), Each(absl::OkStatus()));
  const auto ranks_of = [&](const std::string& host) {
    std::set<int> ranks;
    const std::vector<std::string> names = *FileSystem::Posix().List(RealCheckpoint(host, 5));
    for (const std::string& name : names) {
      if (name.ends_with(".bin")) ranks.insert(std::stoi(name.substr(5)));
    }
    return ranks;
  };
  EXPECT_THAT(ranks_of("a"), ElementsAre(0, 3));
  EXPECT_THAT(ranks_of("b"), ElementsAre(0, 1, 2));
  EXPECT_THAT(ranks_of("c"), ElementsAre(1, 2, 3));
  const Hosts hosts({"a", "b", "b", "c"});
  EXPECT_THAT(CopyHolders(hosts, 2, 3), ElementsAre(3, 0));
  EXPECT_THAT(CopyHolders(hosts, 0, 1), IsEmpty());
  const std::string manifest = *ReadFile(FileSystem::Posix(), RealCheckpoint("a", 5) + "/manifest.json");
  for (const char* host : {"b", "c"}) {
    EXPECT_EQ(*ReadFile(FileSystem::Posix(), RealCheckpoint(host, 5) + "/manifest.json"), manifest);
  }
}

TEST_F(OnHostsTest, WhatIsNotWholeIsSaidAndPassedOver) {
  const std::vector<GlobalTensor> old = RandomState(1), fresh = RandomState(2);
  ASSERT_THAT(Save(kFour, 2, old, 10, 3), Each(absl::OkStatus()));
  ASSERT_THAT(Save(kFour, 1, fresh, 20, 4), Each(absl::OkStatus()));
  Lose("c");
  std::vector<std::string> notes;
  EXPECT_THAT(Find({"a", "b", "d"}, &notes), ElementsAre(10));
  EXPECT_THAT(notes, ElementsAre(AllOf(HasSubstr("step-00000020 of a, b, d"), HasSubstr("the files of ranks 4-5 of"))));
  EXPECT_EQ(Load({"a", "b", "d"}, old, 5), "");
  // Two neighbours are one too many.
  Lose("d");
  EXPECT_THAT(Find({"a", "b"}, &notes), IsEmpty());
}

// A host that was away while the others went on, and has its own idea of a step that they saved again.
TEST_F(OnHostsTest, FilesOfTwoSavesOfOneStepAreNotMixed) {
  const std::vector<GlobalTensor> old = RandomState(1), fresh = RandomState(2);
  ASSERT_THAT(Save({"a", "b", "c"}, 2, old, 10, 3), Each(absl::OkStatus()));
  ASSERT_THAT(Save({"a", "b"}, 2, fresh, 10, 3), Each(absl::OkStatus()));
  EXPECT_EQ(Load({"c", "a", "b"}, fresh, 5), "");
  EXPECT_EQ(Load({"c", "b"}, fresh, 5), "");
}

TEST_F(OnHostsTest, ADamagedFileIsReadFromItsCopy) {
  const std::vector<GlobalTensor> state = RandomState(1);
  ASSERT_THAT(Save(kFour, 2, state, 10, 3), Each(absl::OkStatus()));
  Damage(RealCheckpoint("a", 10) + "/rank-00000.bin");
  Damage(RealCheckpoint("c", 10) + "/rank-00002.bin");   // a copy
  Damage(RealCheckpoint("d", 10) + "/rank-00006.json");
  for (const Names& hosts : {kFour, Names{"a", "c", "d", "b"}}) EXPECT_EQ(Load(hosts, state, 5), "");
  // Where it is damaged on every host that has it, that is said, on all ranks.
  Damage(RealCheckpoint("b", 10) + "/rank-00000.bin");
  EXPECT_THAT(Load(kFour, state, 5), AllOf(HasSubstr("rank-00000.bin: damaged"), HasSubstr("CRC32C")));
}

TEST_F(OnHostsTest, ATruncatedFileIsNotHeld) {
  const std::vector<GlobalTensor> state = RandomState(1);
  ASSERT_THAT(Save(kFour, 2, state, 10, 3), Each(absl::OkStatus()));
  const std::string path = RealCheckpoint("a", 10) + "/rank-00001.bin";
  const std::string content = *ReadFile(FileSystem::Posix(), path);
  ASSERT_TRUE(WriteFile(FileSystem::Posix(), path, content.substr(1)).ok());
  EXPECT_EQ(Load(kFour, state, 5), "");
  Lose("b");
  std::vector<std::string> notes;
  EXPECT_THAT(Find({"a", "c", "d"}, &notes), IsEmpty());
  EXPECT_THAT(notes, ElementsAre(HasSubstr("the files of rank 1 of")));
}

// A bit flips on the way to the copy.
TEST_F(OnHostsTest, ACopyThatIsNotWhatWasSentIsNotCommitted) {
  const std::vector<GlobalTensor> state = RandomState(1);
  std::vector<absl::Status> statuses(3);
  OnRanks({"a", "b", "c"}, [&](World& world, FileSystem& fs) {
    bool flipped = false;
    FlippingWorld flipping(world, [&](const std::string&, const char* operation, const Tensor& result) {
      if (world.rank() != 1 || flipped || operation != std::string("Receive")) return;
      flipped = true;
      static_cast<char*>(result.raw())[result.bytes() / 2] ^= 1;
    });
    const std::unique_ptr<Group> group = flipping.NewGroupBeside("checkpoint", Phase::kSave);
    const RankSlices mine = CutForRank(state, world.rank(), world.size(), 3, /*filled=*/true);
    statuses[static_cast<size_t>(world.rank())] =
        WriteCheckpoint(fs, *group, CheckpointStorage::OfHosts(kFolder, 2), ContentOf(10, mine.slices));
  });
  EXPECT_THAT(statuses, Each(statuses[0]));
  EXPECT_THAT(std::string(statuses[0].message()),
              AllOf(HasSubstr("rank-00000.bin: the copy that came from rank 0 on a has CRC32C"), HasSubstr("was sent")));
  std::vector<std::string> notes;
  EXPECT_THAT(Find({"a", "b", "c"}, &notes), IsEmpty());
}

// Each host's file system in turn dies at every operation of it, by a kill or a power cut: the save fails on every rank or
// is whole, and what was there before is.
TEST_F(OnHostsTest, AHostThatDiesInASaveLeavesWhatWasThere) {
  const std::vector<GlobalTensor> old = RandomState(1), fresh = RandomState(2);
  const Names hosts = {"a", "a", "b", "c"};
  int failed = 0, whole = 0;
  for (const std::string dying : {"a", "b"}) {
    for (const auto crash : {FaultFileSystem::Crash::kKill, FaultFileSystem::Crash::kPowerCut}) {
      for (int64_t k = 0, crashed = 1; crashed == 1; ++k) {
        for (const char* host : {"a", "b", "c"}) Lose(host);
        ASSERT_THAT(Save(hosts, 2, old, 10, 3), Each(absl::OkStatus()));
        SeparateFileSystem of_host(FileSystem::Posix(), kDisk, Real(dying));
        FaultFileSystem faulty(of_host);
        faulty.CrashAt(k, crash);
        std::vector<absl::Status> statuses(hosts.size());
        OnRanks(hosts, [&](World& world, FileSystem& own) {
          const auto rank = static_cast<size_t>(world.rank());
          const RankSlices mine = CutForRank(fresh, world.rank(), world.size(), 4, /*filled=*/true);
          FileSystem& fs = hosts[rank] == dying ? static_cast<FileSystem&>(faulty) : own;
          statuses[rank] = WriteCheckpoint(fs, world.all(), CheckpointStorage::OfHosts(kFolder, 2),
                                           ContentOf(20, mine.slices));
        });
        crashed = faulty.crashed() ? 1 : 0;
        EXPECT_THAT(statuses, Each(statuses[0]));
        // With the host that died, and without it.
        for (const Names& left : {Names{"c", "a", "b"}, Names{"c", dying == "a" ? "b" : "a"}}) {
          std::vector<std::string> notes;
          const std::vector<int64_t> found = Find(left, &notes);
          ASSERT_FALSE(found.empty()) << dying << ", operation " << k;
          EXPECT_EQ(found.back(), 10);
          EXPECT_TRUE(!statuses[0].ok() || found.front() == 20);
          ASSERT_EQ(Load(left, found.front() == 20 ? fresh : old, 5), "") << dying << ", operation " << k;
        }
        (statuses[0].ok() ? whole : failed) += 1;
      }
    }
  }
  EXPECT_GT(failed, 60);
  EXPECT_GE(whole, 4);
}

}  // namespace
}  // namespace trefoil
