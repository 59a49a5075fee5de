// Round trips: what is saved on one layout is what any other layout loads.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "checkpoint/writer.h"
#include "parallel/collectives/world.h"
#include "tests/checkpoint/example_state.h"
#include "tests/runtime/files/fault_file_system.h"
#include "tests/runtime/files/odd_file_systems.h"

namespace trefoil {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() {
    folder_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    EXPECT_TRUE(fs_.Remove(folder_).ok());
  }
  std::vector<std::string> Folders() { return *fs_.List(folder_); }
  void SaveAll(int ranks, const std::vector<GlobalTensor>& state, int64_t step, const SaveOptions& options) {
    EXPECT_THAT(Save(std::vector<FileSystem*>(static_cast<size_t>(ranks), &fs_), folder_, state, step, options),
                Each(absl::OkStatus()));
  }
  CheckpointReader Open(int64_t step) { return *CheckpointReader::Open(fs_, CheckpointPath(folder_, step)); }

  FileSystem& fs_ = FileSystem::Posix();
  std::string folder_;
};

TEST_F(CheckpointTest, AnyLayoutLoadsWhatAnyOtherSaved) {
  uint64_t cut_seed = 0;
  for (const int saving : {1, 2, 3, 4, 8}) {
    const std::vector<GlobalTensor> state = RandomState(static_cast<uint64_t>(saving));
    for (int way = 0; way < 3; ++way) {
      SaveAll(saving, state, /*step=*/saving, {.cut_seed = ++cut_seed, .keep_last = 1});
      for (const int loading : {1, 2, 3, 4, 6}) {
        for (int other = 0; other < 8; ++other) {
          ASSERT_EQ(Load(CheckpointPath(folder_, saving), state, loading, ++cut_seed), "")
              << saving << " ranks saved, " << loading << " load, cut " << cut_seed;
          ASSERT_EQ(LoadOnAll(CheckpointPath(folder_, saving), state, loading, cut_seed), "")
              << saving << " ranks saved, " << loading << " load together, cut " << cut_seed;
        }
      }
    }
  }
}

TEST_F(CheckpointTest, SlicesLargerThanTheReadBufferRoundTrip) {
  const std::vector<GlobalTensor> state = RandomState(1, /*scale=*/15000);  // slices of up to 1.4 MB
  SaveAll(2, state, 1, {.cut_seed = 3});
  for (uint64_t cut_seed : {3, 4, 5}) EXPECT_EQ(Load(CheckpointPath(folder_, 1), state, 3, cut_seed), "");
}

TEST_F(CheckpointTest, GivesBackTheTrainersTextsAndTheListOfTensors) {
  const std::vector<GlobalTensor> state = RandomState(1);
  SaveAll(2, state, 12345, {});
  const CheckpointReader reader = Open(12345);
  EXPECT_EQ(reader.step(), 12345);
  EXPECT_EQ(reader.trainer_state(), "state of step 12345");
  EXPECT_EQ(reader.model(), "a model");
  EXPECT_EQ(reader.tensors().size(), state.size());
  for (const GlobalTensor& tensor : state) {
    const CheckpointReader::TensorInfo* info = reader.Find(tensor.name);
    ASSERT_NE(info, nullptr) << tensor.name;
    EXPECT_EQ(info->dtype, tensor.dtype);
    EXPECT_EQ(info->shape, tensor.shape);
  }
  EXPECT_EQ(reader.Find("none"), nullptr);
}

// The example of docs/checkpoint_format.md and manifest.cc: the format is frozen.
TEST_F(CheckpointTest, TheDocumentedExampleIsWhatIsWritten) {
  std::vector<float> w(12);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i + 1);
  RunRanksAsThreads(2, [&](World& world) {
    const std::unique_ptr<Device> device = NewNullDevice();
    const std::unique_ptr<Group> group = world.NewGroupOfAll(*device);
    const int rank = world.rank();
    auto* const mine = reinterpret_cast<std::byte*>(&w[static_cast<size_t>(6 * rank)]);
    std::vector<ShardedTensor> slices = {{"w", DType::kFloat32, {4, 3}, {{2 * rank, 0}, {2, 3}}, mine}};
    auto* const count = reinterpret_cast<std::byte*>(w.data());
    if (rank == 1) slices.push_back({"count", DType::kInt32, {}, {}, count});
    CheckpointContent content = ContentOf(100, slices);
    content.trainer_state = "samples: 3200";
    content.model = "layers: 1";
    EXPECT_EQ(WriteCheckpoint(fs_, *group, folder_, content), absl::OkStatus());
  });
  EXPECT_EQ(*ReadFile(fs_, CheckpointPath(folder_, 100) + "/manifest.json"),
            R"({"format":"trefoil checkpoint","version":3,
"step":100,
"model":"layers: 1",
"trainer_state":"samples: 3200",
"parts":[
[0,24,152,3220034578],
[1,28,189,579163171]
],
"tensors":[
["count","int32",[],1],
["w","float32",[4,3],1]
],
"crc32c":"806d2749"}
)");
  EXPECT_EQ(*ReadFile(fs_, CheckpointPath(folder_, 100) + "/rank-00001.json"),
            R"({"format":"trefoil checkpoint part","version":3,
"rank":1,
"bytes":28,
"tensors":[
["count","int32",[],[24,3713320107]],
["w","float32",[4,3],[0,2,0,2,3,520318861]]
],
"crc32c":"b3609454"}
)");
  const std::string file = *ReadFile(fs_, CheckpointPath(folder_, 100) + "/rank-00001.bin");
  EXPECT_EQ(file, std::string("\0\0\xe0\x40\0\0\0\x41\0\0\x10\x41\0\0\x20\x41"
                              "\0\0\x30\x41\0\0\x40\x41\0\0\x80\x3f", 28));
}

// What version 1 wrote for the same tensors.
TEST_F(CheckpointTest, TheFirstVersionOfTheFormatIsRead) {
  const std::string path = CheckpointPath(folder_, 100);
  ASSERT_TRUE(fs_.MakeFolder(path).ok());
  std::vector<float> w(13);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 12 + 1);
  const std::string_view bytes(reinterpret_cast<const char*>(w.data()), 52);
  ASSERT_TRUE(WriteFileAtomically(fs_, path + "/rank-00000.bin", bytes.substr(0, 24)).ok());
  ASSERT_TRUE(WriteFileAtomically(fs_, path + "/rank-00001.bin", bytes.substr(24)).ok());
  ASSERT_TRUE(WriteFileAtomically(fs_, path + "/manifest.json", R"({"format":"trefoil checkpoint","version":1,
"step":100,
"model":"layers: 1",
"trainer_state":"samples: 3200",
"files":[[0,24],[1,28]],
"tensors":[
["count","int32",[],[1,24,3713320107]],
["w","float32",[4,3],[0,0,2152793273,0,0,2,3,1,0,520318861,2,0,2,3]]
],
"crc32c":"6e1e3697"}
)").ok());
  std::vector<float> column(4);
  int32_t count = 0;
  const std::vector<ShardedTensor> targets = {
      {"w", DType::kFloat32, {4, 3}, {{0, 1}, {4, 1}}, reinterpret_cast<std::byte*>(column.data())},
      {"count", DType::kInt32, {}, {}, reinterpret_cast<std::byte*>(&count)}};
  ASSERT_EQ(Open(100).Read(targets), absl::OkStatus());
  EXPECT_THAT(column, ElementsAre(2, 5, 8, 11));
  EXPECT_EQ(count, 0x3f800000);
}

// What version 2 wrote: tests/checkpoint/version_2, RandomState(18) cut for three ranks, written by that version's code.
TEST_F(CheckpointTest, TheSecondVersionOfTheFormatIsRead) {
  const std::string path = "tests/checkpoint/version_2";
  const CheckpointReader reader = *CheckpointReader::Open(fs_, path);
  EXPECT_EQ(reader.step(), 200);
  EXPECT_EQ(reader.trainer_state(), "state of step 200");
  EXPECT_EQ(reader.data_files(), 3);
  for (const int ranks : {1, 2, 5}) {
    EXPECT_EQ(Load(path, RandomState(18), ranks, /*cut_seed=*/7), "");
    EXPECT_EQ(LoadOnAll(path, RandomState(18), ranks, /*cut_seed=*/7), "");
  }
}

// Of a large slice only the chunks with something of the target: damage elsewhere does not matter, nor does size.
TEST_F(CheckpointTest, OnlyTheChunksThatAreWantedAreRead) {
  constexpr int64_t kRows = 100, kColumns = 1 << 18;  // a slice of 100 MiB in chunks of 2 MiB: two rows each
  std::vector<float> w(kRows * kColumns);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 9973);
  const ShardedTensor whole = {"w", DType::kFloat32, {kRows, kColumns}, {{0, 0}, {kRows, kColumns}},
                               reinterpret_cast<std::byte*>(w.data())};
  RunRanksAsThreads(1, [&](World& world) {
    const std::unique_ptr<Device> device = NewNullDevice();
    const auto group = world.NewGroupOfAll(*device);
    CheckpointContent content = ContentOf(1, {});
    content.parts = 1;
    content.part = [&](int) { return std::vector<ShardedTensor>{whole}; };
    EXPECT_EQ(WriteCheckpoint(fs_, *group, folder_, content), absl::OkStatus());
  });
  const std::string path = CheckpointPath(folder_, 1) + "/rank-00000.bin";
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(50 << 20).put('\x77');  // in row 50
  const CheckpointReader reader = Open(1);
  const auto read = [&](int64_t row, int64_t rows, int64_t column, int64_t columns) {
    std::vector<float> part(static_cast<size_t>(rows * columns), -1);
    const absl::Status status = reader.Read(ShardedTensor{"w", DType::kFloat32, {kRows, kColumns},
                                                          {{row, column}, {rows, columns}},
                                                          reinterpret_cast<std::byte*>(part.data())});
    for (int64_t i = 0; status.ok() && i < rows * columns; ++i) {
      const int64_t at = (row + i / columns) * kColumns + column + i % columns;
      EXPECT_EQ(part[static_cast<size_t>(i)], static_cast<float>(at % 9973)) << i;
      if (part[static_cast<size_t>(i)] != static_cast<float>(at % 9973)) break;
    }
    return std::string(status.message());
  };
  EXPECT_EQ(read(0, 50, 0, kColumns), "");
  EXPECT_EQ(read(52, 48, 5, 7), "");
  EXPECT_EQ(read(49, 1, 1000, 300), "");
  const std::string damaged = "damaged: tensor \"w\", slice [0, 0]+[100, 262144], bytes 52428800 to 54525952";
  EXPECT_THAT(read(50, 1, 0, 1), HasSubstr(damaged));
  EXPECT_THAT(read(51, 1, 262143, 1), HasSubstr(damaged));
  EXPECT_THAT(read(0, kRows, 0, 1), HasSubstr(damaged));
}

TEST_F(CheckpointTest, OverlappingTargetsOfOneCallAreAllFilled) {
  const std::vector<GlobalTensor> state = RandomState(1);
  SaveAll(3, state, 1, {.cut_seed = 2});
  const GlobalTensor& embedding = state[5];
  ASSERT_EQ(embedding.shape, (Shape{5, 9}));
  std::vector<int32_t> row(9), column(5);
  const std::vector<ShardedTensor> targets = {
      {"embedding", DType::kFloat32, {5, 9}, {{2, 0}, {1, 9}}, reinterpret_cast<std::byte*>(row.data())},
      {"embedding", DType::kFloat32, {5, 9}, {{0, 4}, {5, 1}}, reinterpret_cast<std::byte*>(column.data())}};
  ASSERT_EQ(Open(1).Read(targets), absl::OkStatus());
  const auto* all = reinterpret_cast<const int32_t*>(embedding.data.data());
  for (int i = 0; i < 9; ++i) EXPECT_EQ(row[static_cast<size_t>(i)], all[2 * 9 + i]);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(column[static_cast<size_t>(i)], all[i * 9 + 4]);
}

TEST_F(CheckpointTest, AnotherNameDTypeOrShapeIsRefusedWithBothNamed) {
  SaveAll(1, RandomState(1), 1, {});
  const CheckpointReader reader = Open(1);
  std::vector<std::byte> memory(1000);
  const auto read = [&](const std::string& name, DType dtype, Shape global) {
    Shape zero = global;
    for (int i = 0; i < zero.rank(); ++i) zero[i] = 0;
    return std::string(reader.Read(ShardedTensor{name, dtype, global, {zero, global}, memory.data()}).message());
  };
  const std::string path = CheckpointPath(folder_, 1);
  EXPECT_EQ(read("embeding", DType::kFloat32, {5, 9}),
            path + ": has no tensor \"embeding\"; nearest name: \"embedding\"");
  EXPECT_EQ(read("embedding", DType::kBFloat16, {5, 9}),
            path + ": tensor \"embedding\" is float32 in the checkpoint, but bfloat16 here");
  EXPECT_EQ(read("embedding", DType::kFloat32, {9, 5}),
            path + ": tensor \"embedding\" has shape [5, 9] in the checkpoint, but [9, 5] here");
  EXPECT_EQ(read("embedding", DType::kFloat32, {5, 9}), "");
}

TEST_F(CheckpointTest, KeepsTheLastFewAndLaterOnesOfAnAbandonedRun) {
  const std::vector<GlobalTensor> state = RandomState(1);
  for (const int64_t step : {10, 20, 30, 40}) SaveAll(2, state, step, {.keep_last = 2});
  EXPECT_THAT(Folders(), ElementsAre("step-00000030", "step-00000040"));
  for (const int64_t step : {10, 20}) SaveAll(2, state, step, {.keep_last = 0});
  EXPECT_THAT(Folders(), ElementsAre("step-00000010", "step-00000020", "step-00000030", "step-00000040"));
  SaveAll(2, state, 25, {.keep_last = 2});
  EXPECT_THAT(Folders(), ElementsAre("step-00000020", "step-00000025", "step-00000030", "step-00000040"));
  SaveAll(2, state, 200000000, {.keep_last = 1});
  EXPECT_THAT(Folders(), ElementsAre("step-200000000"));
  EXPECT_EQ(*LatestCheckpoint(fs_, folder_), folder_ + "/step-200000000");
}

TEST_F(CheckpointTest, KeepsEachOfAMultipleForEver) {
  const std::vector<GlobalTensor> state = RandomState(1);
  for (int64_t step = 5; step <= 45; step += 5) SaveAll(2, state, step, {.keep_last = 2, .keep_every = 20});
  EXPECT_THAT(Folders(), ElementsAre("step-00000020", "step-00000035", "step-00000040", "step-00000045"));
}

TEST_F(CheckpointTest, ADamagedOneIsSetAsideForEver) {
  const std::vector<GlobalTensor> state = RandomState(1);
  for (int round = 0; round < 2; ++round) {
    SaveAll(1, state, 7, {});
    const auto aside = SetAsideDamaged(fs_, CheckpointPath(folder_, 7));
    ASSERT_TRUE(aside.ok()) << aside.status();
    EXPECT_EQ(*aside, folder_ + "/step-00000007.damaged" + (round == 0 ? "" : "-2"));
  }
  SaveAll(1, state, 8, {.keep_last = 1});
  EXPECT_THAT(Folders(), ElementsAre("step-00000007.damaged", "step-00000007.damaged-2", "step-00000008"));
}

// A job that lost the folder (its host was cut off, the job was started again elsewhere) begins a save of the same step, as
// if it had not noticed, at any point of its successor's, and is in the middle of it when that one ends: the newest
// checkpoint is whole, and nothing of the orphan's is in it.
TEST_F(CheckpointTest, AnOrphanedJobDoesNotDamageTheSaveOfItsSuccessor) {
  const std::vector<GlobalTensor> before = RandomState(3), mine = RandomState(1);
  int64_t calls = 0, kept = 0;
  for (int64_t k = 0; k == 0 || k < calls; ++k) {
    ASSERT_TRUE(fs_.Remove(folder_).ok());
    SaveAll(2, before, 1, {});
    InterruptedFileSystem interrupted(fs_, k, [&] {
      ASSERT_TRUE(BeginCheckpoint(fs_, folder_, 2, "dead").ok());
      for (const char* name : {"/rank-00000.bin", "/rank-00001.bin"}) {
        (*fs_.Create(PartialCheckpointPath(folder_, 2, "dead") + name))->Close().IgnoreError();
      }
    });
    const auto statuses = Save({&interrupted, &interrupted}, folder_, mine, 2, {.cut_seed = 1, .owner = "beef"});
    calls = interrupted.calls();
    const auto latest = LatestCheckpoint(fs_, folder_);
    ASSERT_TRUE(latest.ok()) << latest.status();
    EXPECT_EQ(Load(*latest, statuses[0].ok() ? mine : before, 1, 0), "") << k;
    kept += statuses[0].ok() ? 0 : 1;
  }
  EXPECT_GT(calls, 30);
  EXPECT_GT(kept, 10) << "the orphan's beginning removes what the other has not committed";
}

// An owner that finds that it is none saves nothing: before it makes a folder, or before it commits.
TEST_F(CheckpointTest, WhoMayNotWriteCommitsNothing) {
  SaveAll(2, RandomState(1), 1, {});
  for (int allowed = 0; allowed < 2; ++allowed) {
    int asked = 0;
    const auto may_write = [&] {
      return asked++ < allowed ? absl::OkStatus() : absl::FailedPreconditionError("taken over");
    };
    EXPECT_THAT(Save({&fs_, &fs_}, folder_, RandomState(2), 2, {.may_write = may_write}),
                Each(absl::FailedPreconditionError("taken over")));
    EXPECT_EQ(asked, allowed + 1);
    EXPECT_THAT(Folders(), ElementsAre("step-00000001"));
  }
}

// Two hosts, each with a folder of its own under the one name: the save fails and says so, and commits nothing.
TEST_F(CheckpointTest, AFolderThatOneRankHasForItselfIsFoundBeforeTheCommit) {
  SaveAll(3, RandomState(1), 1, {.keep_last = 1});
  const std::string elsewhere = folder_ + "_of_another_host";
  for (size_t alone = 1; alone < 3; ++alone) {
    ASSERT_TRUE(fs_.Remove(elsewhere).ok());
    SeparateFileSystem separate(fs_, folder_, elsewhere);
    // The other host has the folder of that save, as left by an earlier start there.
    ASSERT_TRUE(fs_.MakeFolder(elsewhere + "/step-00000002.0a1b.partial").ok());
    std::vector<FileSystem*> file_systems(3, &fs_);
    file_systems[alone] = &separate;
    // Each looks for the files of the rank before it, rank 0 for those of the last; the error of the lowest counts.
    const size_t sees = alone == 1 ? 1 : 0, written = alone == 1 ? 0 : 2;
    for (const absl::Status& status : Save(file_systems, folder_, RandomState(2), 2, {.keep_last = 1})) {
      EXPECT_EQ(status.message(),
                absl::StrCat(sees == 0 ? "" : "rank 1 on localhost: ", PartialCheckpointPath(folder_, 2, "0a1b"),
                             "/rank-0000", written, ".bin: rank ", written, " has written it, but rank ", sees,
                             " does not see it: the hosts must share the run folder, and nothing else may remove ",
                             "files there"));
    }
    EXPECT_THAT(Folders(), ElementsAre("step-00000001"));
  }
}

// The files of a save lose bytes before it commits.
TEST_F(CheckpointTest, AFileOfAnotherSizeIsFoundBeforeTheCommit) {
  for (const char* name : {"/rank-00001.bin", "/rank-00001.json"}) {
    const std::string path = PartialCheckpointPath(folder_, 2, "0a1b") + name;
    // A rank that comes late: the other's files are there when it makes its own.
    int asked = 0;
    InterruptedFileSystem interrupted(fs_, -1, nullptr);
    interrupted.BeforeCreating("rank-00000.json", [&] {
      const std::string last = PartialCheckpointPath(folder_, 2, "0a1b") + "/rank-00001.json";
      while (!fs_.Exists(last) || (*fs_.Open(last))->size() == 0) usleep(1000);
      EXPECT_EQ(truncate(path.c_str(), 10), 0);
      ++asked;
    });
    EXPECT_THAT(Save({&interrupted, &fs_}, folder_, RandomState(2), 2, {})[0].message(),
                AllOf(HasSubstr(path + ": rank 1 has written "), HasSubstr(" bytes, but rank 0 sees 10")));
    EXPECT_EQ(asked, 1);
    EXPECT_THAT(Folders(), ElementsAre());
  }
}

TEST_F(CheckpointTest, ASecondSaveOfAStepReplacesTheFirst) {
  SaveAll(4, RandomState(1), 7, {.keep_last = 1});
  SaveAll(2, RandomState(2), 7, {.keep_last = 1});
  EXPECT_EQ(Load(CheckpointPath(folder_, 7), RandomState(2), 2, 5), "");
  EXPECT_THAT(Folders(), ElementsAre("step-00000007"));
  EXPECT_THAT(*fs_.List(CheckpointPath(folder_, 7)),
              ElementsAre("manifest.json", "rank-00000.bin", "rank-00000.json", "rank-00001.bin", "rank-00001.json"));
}

TEST_F(CheckpointTest, LatestIgnoresWhatIsNotCompleteAndNamesIt) {
  const auto none = LatestCheckpoint(fs_, folder_);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(none.status().message(), HasSubstr(folder_));
  for (const char* name : {"step-00000030.partial", "step-00000040.deleted", "step-9", "notes"}) {
    ASSERT_TRUE(fs_.MakeFolder(folder_ + "/" + name).ok());
  }
  std::vector<std::string> ignored;
  EXPECT_EQ(LatestCheckpoint(fs_, folder_, &ignored).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(ignored, ElementsAre("step-00000030.partial", "step-00000040.deleted"));
  ASSERT_TRUE(fs_.MakeFolder(folder_ + "/step-00000020").ok());
  ASSERT_TRUE(fs_.MakeFolder(folder_ + "/step-00000020.replaced").ok());
  EXPECT_EQ(*LatestCheckpoint(fs_, folder_), folder_ + "/step-00000020");
  ASSERT_TRUE(fs_.MakeFolder(folder_ + "/step-00000025.replaced").ok());
  EXPECT_EQ(*LatestCheckpoint(fs_, folder_), folder_ + "/step-00000025.replaced");
}

TEST_F(CheckpointTest, AFolderThatCannotBeMadeIsAnErrorOnEveryRank) {
  ASSERT_TRUE(fs_.MakeFolder(folder_).ok());
  ASSERT_TRUE(WriteFileAtomically(fs_, folder_ + "/file", "").ok());
  const std::string inside = folder_ + "/file/checkpoints";
  for (const absl::Status& status : Save({&fs_, &fs_}, inside, RandomState(1), 1, {})) {
    EXPECT_THAT(status.message(), HasSubstr(folder_ + "/file"));
    EXPECT_THAT(status.message(), HasSubstr("not a directory"));
  }
}

TEST_F(CheckpointTest, AFullDiskIsAnErrorOnEveryRankAndKeepsThePreviousCheckpoint) {
  SaveAll(2, RandomState(1), 1, {.keep_last = 1});
  bool fits = false;
  for (int64_t bytes = 0; !fits; bytes += 97) {
    for (const size_t full : {size_t{0}, size_t{1}}) {
      FaultFileSystem disk(fs_);
      disk.FillAfter(bytes);
      std::vector<FileSystem*> file_systems = {&fs_, &fs_};
      file_systems[full] = &disk;
      const std::vector<absl::Status> statuses = Save(file_systems, folder_, RandomState(2), 2, {.keep_last = 1});
      EXPECT_EQ(statuses[0], statuses[1]);
      if (full == 0) fits = statuses[0].ok();
      if (statuses[0].ok()) {
        EXPECT_EQ(Load(CheckpointPath(folder_, 2), RandomState(2), 1, 0), "");
        SaveAll(2, RandomState(1), 1, {});
        ASSERT_TRUE(fs_.Remove(CheckpointPath(folder_, 2)).ok());
        continue;
      }
      EXPECT_THAT(statuses[0].message(), HasSubstr("/step-00000002.0a1b.partial/"));
      EXPECT_THAT(statuses[0].message(), HasSubstr("no space left on device"));
      EXPECT_THAT(Folders(), ElementsAre("step-00000001"));
      EXPECT_EQ(Load(*LatestCheckpoint(fs_, folder_), RandomState(1), 1, 0), "");
    }
  }
}

}  // namespace
}  // namespace trefoil
