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
#include "runtime/files/crc32c.h"
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
  EXPECT_EQ(ErrorAfterRewriting("\"version\":2", "\"version\":3"),
            In("manifest.json") + ": format version 3, but this program reads versions 1 to 2 only");
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
  EXPECT_EQ(ErrorAfterRewriting("[5,9]", "[6,9]"),
            name + ": tensor \"embedding\" [6, 9]: the slices leave a part of it to no rank: they hold 45 of 54 elements");
  // Sizes beyond 63 bits, and files that are listed twice.
  EXPECT_THAT(ErrorAfterRewriting("\"files\":[[0,", "\"files\":[[0,18446744073709551615],[0,"),
              HasSubstr("files: [0,18446744073709551615] must be [rank, bytes], each rank once"));
  EXPECT_THAT(ErrorAfterRewriting("\"files\":[[0,", "\"files\":[[4294967296,1],[0,"), HasSubstr("must be [rank, bytes]"));
  EXPECT_THAT(ErrorAfterRewriting("\"files\":[[0,", "\"files\":[[0,1],[0,"), HasSubstr("each rank once"));
}

TEST_F(DamageTest, ElementsThatNoSliceHoldsAreAnError) {
  Manifest manifest = *DecodeManifest(Read("manifest.json"), "manifest.json");
  for (ManifestTensor& tensor : manifest.tensors) {
    if (tensor.name == "embedding") tensor.slices.pop_back();
  }
  Write("manifest.json", EncodeManifest(manifest));
  EXPECT_THAT(LoadAll(), AllOf(HasSubstr("manifest.json: tensor \"embedding\""), HasSubstr("of 45 elements")));
}

// As many elements as the tensor has, but some twice and some not at all.
TEST_F(DamageTest, SlicesThatOverlapAreAnError) {
  Manifest manifest = *DecodeManifest(Read("manifest.json"), "manifest.json");
  for (ManifestTensor& tensor : manifest.tensors) {
    if (tensor.name != "embedding") continue;
    ASSERT_GE(tensor.slices.size(), 2u);
    ManifestSlice &first = tensor.slices[0], &second = tensor.slices[1];
    ASSERT_EQ(first.crcs.size(), 1u);
    second.box.offset = first.box.offset;
  }
  Write("manifest.json", EncodeManifest(manifest));
  EXPECT_THAT(LoadAll(), AllOf(HasSubstr("manifest.json: tensor \"embedding\""), HasSubstr("overlap")));
}

TEST(Manifest, TilingErrorSeesOverlapsAndHoles) {
  const auto error = [](std::vector<Box> boxes) {
    ManifestTensor t{"w", DType::kFloat32, {4, 4}, {}};
    for (const Box& box : boxes) t.slices.push_back({.box = box, .crcs = {}});
    return TilingError(t);
  };
  EXPECT_EQ(error({{{2, 0}, {2, 2}}, {{0, 0}, {2, 4}}, {{2, 2}, {2, 2}}}), "");
  EXPECT_EQ(TilingError({"scalar", DType::kFloat32, {}, {ManifestSlice()}}), "");
  EXPECT_THAT(error({{{0, 0}, {2, 4}}, {{2, 0}, {2, 2}}}), HasSubstr("leave a part of it to no rank"));
  EXPECT_THAT(error({{{0, 0}, {2, 4}}, {{1, 0}, {2, 4}}}), HasSubstr("overlap"));
  EXPECT_EQ(error({{{0, 0}, {4, 2}}, {{0, 1}, {4, 2}}}), "slices [0, 0]+[4, 2] and [0, 1]+[4, 2] overlap");
  EXPECT_THAT(TilingError({"scalar", DType::kFloat32, {}, {ManifestSlice(), ManifestSlice()}}), HasSubstr("overlap"));
  // Elements whose sum does not fit into 63 bits.
  const int64_t n = int64_t{1} << 31, m = int64_t{1} << 30;
  ManifestTensor huge{"w", DType::kFloat32, {n, m}, {}};
  for (int i = 0; i < 9; ++i) huge.slices.push_back({.box = {{0, 0}, {n, m}}, .crcs = {}});
  EXPECT_THAT(TilingError(huge), HasSubstr("overlap"));
}

TEST(Manifest, PacksToTheSame) {
  Manifest manifest = {.step = 7, .trainer_state = "a\0b", .model = "", .file_bytes = {{0, 5}, {3, 1 << 30}}, .tensors = {}};
  manifest.tensors.push_back({"w", DType::kBFloat16, {4, 5}, {}});
  manifest.tensors[0].slices.push_back({.rank = 3, .byte_offset = 9, .box = {{1, 2}, {3, 3}}, .chunk_bytes = 18, .crcs = {1, 4294967295u}});
  manifest.tensors.push_back({"scalar", DType::kInt32, {}, {}});
  const std::string packed = PackManifest(manifest);
  const Manifest same = UnpackManifest(packed);
  EXPECT_EQ(PackManifest(same), packed);
  EXPECT_EQ(EncodeManifest(same), EncodeManifest(manifest));
}

TEST(Manifest, ALargeSliceHasAtMost64Chunks) {
  constexpr int64_t kMiB = 1 << 20;
  EXPECT_EQ(ChunkBytes(1), kMiB);
  EXPECT_EQ(ChunkBytes(64 * kMiB), kMiB);
  EXPECT_EQ(ChunkBytes(64 * kMiB + 4), 2 * kMiB);
  EXPECT_EQ(ChunkBytes(int64_t{1} << 40), int64_t{1} << 34);
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
