// Round trips: what is saved on one layout is what any other layout loads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "checkpoint/writer.h"
#include "parallel/world.h"
#include "tests/checkpoint/example_state.h"
#include "tests/runtime/fault_file_system.h"

namespace trefoil {
namespace {

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
    CheckpointContent content = {100, "samples: 3200", "layers: 1", {}};
    auto* const mine = reinterpret_cast<std::byte*>(&w[static_cast<size_t>(6 * rank)]);
    content.slices.push_back({"w", DType::kFloat32, {4, 3}, {{2 * rank, 0}, {2, 3}}, mine});
    auto* const count = reinterpret_cast<std::byte*>(w.data());
    if (rank == 1) content.slices.push_back({"count", DType::kInt32, {}, {}, count});
    EXPECT_EQ(WriteCheckpoint(fs_, *group, folder_, content, 1), absl::OkStatus());
  });
  EXPECT_EQ(*ReadFile(fs_, CheckpointPath(folder_, 100) + "/manifest.json"),
            R"({"format":"trefoil checkpoint","version":1,
"step":100,
"model":"layers: 1",
"trainer_state":"samples: 3200",
"files":[[0,24],[1,28]],
"tensors":[
["count","int32",[],[1,24,3713320107]],
["w","float32",[4,3],[0,0,2152793273,0,0,2,3,1,0,520318861,2,0,2,3]]
],
"crc32c":"6e1e3697"}
)");
  const std::string file = *ReadFile(fs_, CheckpointPath(folder_, 100) + "/rank-00001.bin");
  EXPECT_EQ(file, std::string("\0\0\xe0\x40\0\0\0\x41\0\0\x10\x41\0\0\x20\x41"
                              "\0\0\x30\x41\0\0\x40\x41\0\0\x80\x3f", 28));
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

TEST_F(CheckpointTest, ASecondSaveOfAStepReplacesTheFirst) {
  SaveAll(4, RandomState(1), 7, {.keep_last = 1});
  SaveAll(2, RandomState(2), 7, {.keep_last = 1});
  EXPECT_EQ(Load(CheckpointPath(folder_, 7), RandomState(2), 2, 5), "");
  EXPECT_THAT(Folders(), ElementsAre("step-00000007"));
  EXPECT_THAT(*fs_.List(CheckpointPath(folder_, 7)), ElementsAre("manifest.json", "rank-00000.bin", "rank-00001.bin"));
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
      EXPECT_THAT(statuses[0].message(), HasSubstr("/step-00000002.partial/"));
      EXPECT_THAT(statuses[0].message(), HasSubstr("no space left on device"));
      EXPECT_THAT(Folders(), ElementsAre("step-00000001"));
      EXPECT_EQ(Load(*LatestCheckpoint(fs_, folder_), RandomState(1), 1, 0), "");
    }
  }
}

}  // namespace
}  // namespace trefoil
