// What is not what was written is found, and named.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "checkpoint/reader.h"
#include "checkpoint/writer.h"
#include "runtime/crc32c.h"
#include "tests/checkpoint/example_state.h"

namespace trefoil {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr int kRanks = 2;
constexpr uint64_t kCutSeed = 3;

class DamageTest : public ::testing::Test {
 protected:
  DamageTest() {
    const std::string folder =
        testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    EXPECT_TRUE(fs_.Remove(folder).ok());
    EXPECT_THAT(Save({&fs_, &fs_}, folder, state_, 1, {.cut_seed = kCutSeed}), Each(absl::OkStatus()));
    checkpoint_ = CheckpointPath(folder, 1);
    EXPECT_EQ(LoadAll(), "");
  }
  std::string LoadAll() { return Load(checkpoint_, state_, 1, 0); }
  std::string In(const std::string& name) { return checkpoint_ + "/" + name; }
  std::string Read(const std::string& name) { return *ReadFile(fs_, In(name)); }
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(In(name), std::ios::binary) << content;
  }
  // Replaces text in the manifest and makes its checksum right again.
  std::string ErrorAfterRewriting(const std::string& from, const std::string& to) {
    const std::string good = Read("manifest.json");
    const size_t trailer = good.rfind("\"crc32c\"");
    const std::string body = absl::StrReplaceAll(good.substr(0, trailer), {{from, to}});
    EXPECT_NE(body, good.substr(0, trailer)) << from << " is not in the manifest";
    Write("manifest.json", body + absl::StrFormat("\"crc32c\":\"%08x\"}\n", Crc32c(body)));
    const std::string error = LoadAll();
    Write("manifest.json", good);
    return error;
  }

  FileSystem& fs_ = FileSystem::Posix();
  const std::vector<GlobalTensor> state_ = RandomState(1);
  std::string checkpoint_;
};

TEST_F(DamageTest, AFlippedBitAtAnyByteOfADataFileIsFoundWithFileTensorAndSlice) {
  for (int rank = 0; rank < kRanks; ++rank) {
    const std::string name = absl::StrFormat("rank-%05d.bin", rank), good = Read(name);
    size_t at = 0;
    for (const ShardedTensor& slice : CutForRank(state_, rank, kRanks, kCutSeed, false).slices) {
      for (const size_t end = at + static_cast<size_t>(slice.bytes()); at < end; ++at) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
        Write(name, bad);
        ASSERT_THAT(LoadAll(), AllOf(HasSubstr(In(name)), HasSubstr("\"" + slice.name + "\""),
                                     HasSubstr("slice " + slice.box.offset.ToString() + "+" +
                                               slice.box.extent.ToString())))
            << "byte " << at;
      }
    }
    EXPECT_EQ(at, good.size());
    EXPECT_GT(at, 100u);
    Write(name, good);
  }
  EXPECT_EQ(LoadAll(), "");
}

TEST_F(DamageTest, AFlippedBitAtAnyByteOfTheManifestIsFound) {
  const std::string good = Read("manifest.json");
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
    Write("manifest.json", bad);
    ASSERT_THAT(LoadAll(), AllOf(HasSubstr(In("manifest.json")), HasSubstr("damaged"))) << "byte " << at;
  }
}

TEST_F(DamageTest, AMissingTruncatedOrTooLongFileIsNamed) {
  for (const std::string name : {"manifest.json", "rank-00000.bin", "rank-00001.bin"}) {
    const std::string good = Read(name);
    ASSERT_TRUE(fs_.Remove(In(name)).ok());
    EXPECT_EQ(LoadAll(), In(name) + ": no such file or directory");
    for (const size_t size : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1}) {
      Write(name, good.substr(0, size));
      EXPECT_THAT(LoadAll(), AllOf(HasSubstr(In(name)), HasSubstr("truncated"))) << size;
    }
    Write(name, good + "\n");
    EXPECT_THAT(LoadAll(), HasSubstr(In(name)));
    Write(name, good);
  }
}

TEST_F(DamageTest, AnotherVersionIsNamed) {
  EXPECT_EQ(ErrorAfterRewriting("\"version\":1", "\"version\":2"),
            In("manifest.json") + ": format version 2, but this program reads version 1 only");
}

TEST_F(DamageTest, AManifestThatMakesNoSenseIsRefused) {
  const std::string name = In("manifest.json");
  EXPECT_EQ(ErrorAfterRewriting("trefoil checkpoint", "something"), name + ": not a manifest of a checkpoint");
  EXPECT_EQ(ErrorAfterRewriting("\"step\":1", "\"step\":\"1\""), name + ": step: must be a number");
  EXPECT_EQ(ErrorAfterRewriting("\"tensors\":[", "\"tensors\":[7,"),
            name + ": tensors: 7: must be [name, dtype, shape, slices]");
  EXPECT_THAT(ErrorAfterRewriting("\"float32\"", "\"float64\""), HasSubstr("dtype must be float32, bfloat16 or int32"));
  EXPECT_THAT(ErrorAfterRewriting("[5,9]", "[4,9]"), HasSubstr("must lie within the tensor"));
  EXPECT_THAT(ErrorAfterRewriting("[5,9]", "[5,9223372036854775807]"), HasSubstr("dims must be at least 1"));
  EXPECT_THAT(ErrorAfterRewriting("\"files\":[[0,", "\"files\":[[0,1],[2,"), HasSubstr("must lie within its file"));
  // By the last byte of the last slice.
  const size_t bytes = Read("rank-00000.bin").size();
  EXPECT_THAT(ErrorAfterRewriting(absl::StrCat("\"files\":[[0,", bytes), absl::StrCat("\"files\":[[0,", bytes - 1)),
              HasSubstr("must lie within its file"));
  // A tensor larger than its slices.
  const auto reader = ErrorAfterRewriting("[5,9]", "[6,9]");
  EXPECT_THAT(reader, HasSubstr("has shape [6, 9] in the checkpoint"));
}

TEST_F(DamageTest, ElementsThatNoSliceHoldsAreAnError) {
  Manifest manifest = *DecodeManifest(Read("manifest.json"), "manifest.json");
  for (ManifestTensor& tensor : manifest.tensors) {
    if (tensor.name == "embedding") tensor.slices.pop_back();
  }
  Write("manifest.json", EncodeManifest(manifest));
  EXPECT_THAT(LoadAll(), AllOf(HasSubstr("manifest.json: tensor \"embedding\""), HasSubstr("of 45 elements")));
}

TEST(ManifestDeathTest, SlicesThatOverlapOrLeaveHolesAreABug) {
  const auto tensor = [](std::vector<Box> boxes) {
    ManifestTensor t{"w", DType::kFloat32, {4, 4}, {}};
    for (const Box& box : boxes) t.slices.push_back({0, 0, 0, box});
    return t;
  };
  CheckTiling(tensor({{{2, 0}, {2, 2}}, {{0, 0}, {2, 4}}, {{2, 2}, {2, 2}}}));
  CheckTiling({"scalar", DType::kFloat32, {}, {{0, 0, 0, {}}}});
  EXPECT_DEATH(CheckTiling(tensor({{{0, 0}, {2, 4}}, {{2, 0}, {2, 2}}})), "\"w\" .*leave a part");
  EXPECT_DEATH(CheckTiling(tensor({{{0, 0}, {2, 4}}, {{1, 0}, {2, 4}}})), "\"w\": slices .* overlap");
  // As many elements as the tensor has, but some twice and some not at all.
  EXPECT_DEATH(CheckTiling(tensor({{{0, 0}, {4, 2}}, {{0, 1}, {4, 2}}})), "\"w\": slices .* overlap");
  EXPECT_DEATH(CheckTiling({"scalar", DType::kFloat32, {}, {{0, 0, 0, {}}, {1, 0, 0, {}}}}), "overlap");
}

TEST(WriterDeathTest, ElementsSavedTwiceAreABug) {
  std::vector<GlobalTensor> state = RandomState(1);
  const std::string folder = testing::TempDir() + "/hole";
  FileSystem& fs = FileSystem::Posix();
  EXPECT_DEATH(
      {
        state.push_back(state[0]);  // every slice twice
        Save({&fs, &fs}, folder, state, 1, {});
      },
      "blocks.0.attention.q.weight.*overlap");
}

}  // namespace
}  // namespace trefoil
