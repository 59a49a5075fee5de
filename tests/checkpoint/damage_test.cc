// What is not what was written is found, and named.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <limits>

#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "checkpoint/packed.h"
#include "checkpoint/part.h"
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
    Write("manifest.json", Rewritten(good, from, to));
    const std::string error = LoadAll();
    EXPECT_EQ(LoadOnAll(checkpoint_, state_, 3, 0), error);
    Write("manifest.json", good);
    return error;
  }
  // The same in the part of rank 0, which the manifest then says is right.
  std::string ErrorAfterRewritingPart(const std::string& from, const std::string& to) {
    const std::string good = Read("manifest.json"), part = Read("rank-00000.json");
    const std::string bad = Rewritten(part, from, to);
    PutPart(bad);
    const std::string error = LoadAll();
    EXPECT_EQ(LoadOnAll(checkpoint_, state_, 2, 0), error);
    Write("rank-00000.json", part);
    Write("manifest.json", good);
    return error;
  }
  // Replaces rank 0's part, in the manifest too.
  void PutPart(const std::string& text) {
    const auto entry = [](const std::string& part) { return absl::StrCat(part.size(), ",", Crc32c(part), "]"); };
    Write("manifest.json", Rewritten(Read("manifest.json"), entry(Read("rank-00000.json")), entry(text)));
    Write("rank-00000.json", text);
  }
  static std::string Rewritten(const std::string& good, const std::string& from, const std::string& to) {
    const size_t trailer = good.rfind("\"crc32c\"");
    const std::string body = absl::StrReplaceAll(good.substr(0, trailer), {{from, to}});
    EXPECT_NE(body, good.substr(0, trailer)) << from << " is not in the text";
    return body + absl::StrFormat("\"crc32c\":\"%08x\"}\n", Crc32c(body));
  }
  // Rank 0's part with other slices of a tensor.
  void ChangeSlices(const std::string& name, const std::function<void(std::vector<ManifestSlice>*)>& change) {
    const Manifest manifest = *DecodeManifest(Read("manifest.json"), "manifest.json");
    ManifestPart part = *DecodePart(Read("rank-00000.json"), "part", manifest, manifest.parts[0]);
    for (ManifestTensor& tensor : part.tensors) {
      if (tensor.name == name) change(&tensor.slices);
    }
    PutPart(EncodePart(part));
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

TEST_F(DamageTest, AFlippedBitAtAnyByteOfTheManifestOrAPartIsFound) {
  for (const std::string name : {"manifest.json", "rank-00000.json", "rank-00001.json"}) {
    const std::string good = Read(name);
    for (size_t at = 0; at < good.size(); ++at) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
      Write(name, bad);
      ASSERT_THAT(LoadAll(), AllOf(HasSubstr(In(name)), HasSubstr("damaged"))) << "byte " << at;
      if (at % 64 == 0) {
        EXPECT_THAT(LoadOnAll(checkpoint_, state_, 3, 0), AllOf(HasSubstr(In(name)), HasSubstr("damaged")));
      }
    }
    Write(name, good);
  }
}

// Whole in itself and of the right size, but not the one that was committed.
TEST_F(DamageTest, APartOfAnotherSaveIsFound) {
  const std::string part = Read("rank-00001.json");
  const size_t last_digit = part.rfind("]]") - 1;  // of a slice's checksum
  const std::string from = part.substr(last_digit - 20, 21);
  std::string to = from;
  to.back() = from.back() == '1' ? '2' : '1';
  Write("rank-00001.json", Rewritten(part, from, to));
  const std::string damaged = In("rank-00001.json") + ": damaged: CRC32C is ";
  EXPECT_THAT(LoadAll(), HasSubstr(damaged));
  EXPECT_THAT(LoadOnAll(checkpoint_, state_, 2, 0), HasSubstr(damaged));
}

TEST_F(DamageTest, AMissingTruncatedOrTooLongFileIsNamed) {
  for (const std::string name :
       {"manifest.json", "rank-00000.bin", "rank-00001.bin", "rank-00000.json", "rank-00001.json"}) {
    const std::string good = Read(name);
    ASSERT_TRUE(fs_.Remove(In(name)).ok());
    const bool is_part = name.starts_with("rank-") && name.ends_with(".json");
    EXPECT_EQ(LoadAll(), In(name) + ": no such file or directory" +
                             (is_part ? " (where hosts have folders of their own each has a part: trefoil checkpoint copy "
                                        "gathers them)"
                                      : ""));
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
  EXPECT_EQ(ErrorAfterRewriting("\"version\":3", "\"version\":4"),
            In("manifest.json") + ": format version 4, but this program reads versions 1 to 3 only");
}

TEST_F(DamageTest, AManifestThatMakesNoSenseIsRefused) {
  const std::string name = In("manifest.json");
  EXPECT_EQ(ErrorAfterRewriting("trefoil checkpoint", "something"), name + ": not a manifest of a checkpoint");
  EXPECT_EQ(ErrorAfterRewriting("\"step\":1", "\"step\":\"1\""), name + ": step: must be a number");
  EXPECT_EQ(ErrorAfterRewriting("\"step\":1", "\"step\":18446744073709551615"), name + ": step: must be a number");
  EXPECT_EQ(ErrorAfterRewriting("\"tensors\":[", "\"tensors\":[7,"),
            name + ": tensors: 7: must be [name, dtype, shape, bands]");
  EXPECT_THAT(ErrorAfterRewriting("\"float32\"", "\"float64\""), HasSubstr("dtype must be float32, bfloat16 or int32"));
  EXPECT_THAT(ErrorAfterRewriting("[5,9]", "[5,9223372036854775807]"), HasSubstr("dims must be at least 1"));
  EXPECT_THAT(ErrorAfterRewriting("[5,9],1", "[5,9],0"), HasSubstr("bands must be at least 1 and at most its rows"));
  EXPECT_THAT(ErrorAfterRewriting("[5,9],1", "[5,9],6"), HasSubstr("bands must be at least 1 and at most its rows"));
  EXPECT_THAT(ErrorAfterRewriting("\"embedding\"", "\"zero\""), HasSubstr("names must be ascending"));
  // Sizes beyond 63 bits, and parts that are listed twice.
  EXPECT_THAT(ErrorAfterRewriting("\"parts\":[\n[0,", "\"parts\":[\n[0,18446744073709551615,1,1],[0,"),
              HasSubstr("parts: [0,18446744073709551615,1,1] must be [rank, file's bytes, part's bytes, part's crc32c], "));
  EXPECT_THAT(ErrorAfterRewriting("\"parts\":[\n[0,", "\"parts\":[\n[4294967296,1,1,1],[0,"),
              HasSubstr("parts: [4294967296"));
  EXPECT_THAT(ErrorAfterRewriting("\"parts\":[\n[0,", "\"parts\":[\n[0,1,1,1],[0,"), HasSubstr("each rank once"));
}

// Whatever its checksum says: a manifest of so many rows or bands would keep its readers busy for years.
TEST_F(DamageTest, SizesThatNoFilesHaveAreRefused) {
  const std::string name = In("manifest.json");
  int64_t files = 0, parts = 0;
  for (const std::string rank : {"rank-00000", "rank-00001"}) {
    files += static_cast<int64_t>(Read(rank + ".bin").size());
    parts += static_cast<int64_t>(Read(rank + ".json").size());
  }
  const auto error = [&](int64_t bytes) {
    return absl::StrCat(name, ": tensors: have ", bytes, " bytes, but the data files ", files, "; must be the same");
  };
  EXPECT_EQ(ErrorAfterRewriting("[5,9],1", "[6,9],1"), error(files + 36));
  EXPECT_EQ(ErrorAfterRewriting("[5,9],1", "[4,9],1"), error(files - 36));
  constexpr int64_t kMany = int64_t{1} << 60;
  EXPECT_EQ(ErrorAfterRewriting("[5,9],1", absl::StrCat("[", kMany, ",1],", kMany)), error(files - 180 + 4 * kMany));
  // The sum of all does not fit into 63 bits.
  EXPECT_EQ(ErrorAfterRewriting("[5,9],1", absl::StrCat("[", kMany, ",1],1],\n[\"f\",\"float32\",[", kMany, ",1],1")),
            error(std::numeric_limits<int64_t>::max()));
  // So many bands need files that say so.
  const std::string file = absl::StrCat("[0,", Read("rank-00000.bin").size(), ",");
  const std::string good = Read("manifest.json");
  Write("manifest.json", Rewritten(good, file, absl::StrCat("[0,", Read("rank-00000.bin").size() - 180 + kMany * 4, ",")));
  EXPECT_EQ(ErrorAfterRewriting("[5,9],1", absl::StrCat("[", kMany, ",1],", kMany)),
            absl::StrCat(name, ": tensors: have ", kMany + 10, " bands, more than the parts have bytes, ", parts));
  Write("manifest.json", good);
  EXPECT_EQ(LoadAll(), "");
}

TEST_F(DamageTest, APartThatMakesNoSenseIsRefused) {
  const std::string name = In("rank-00000.json");
  EXPECT_EQ(ErrorAfterRewritingPart("checkpoint part", "something"), name + ": not a part of a checkpoint's manifest");
  EXPECT_EQ(ErrorAfterRewritingPart("\"rank\":0", "\"rank\":1"), name + ": rank: must be 0");
  const size_t bytes = Read("rank-00000.bin").size();
  EXPECT_EQ(ErrorAfterRewritingPart("\"bytes\":", "\"bytes\":1"), absl::StrCat(name, ": bytes: must be ", bytes));
  EXPECT_EQ(ErrorAfterRewritingPart("\"tensors\":[", "\"tensors\":[7,"),
            name + ": tensors: 7: must be [name, dtype, shape, slices]");
  EXPECT_EQ(ErrorAfterRewritingPart("\"embedding\"", "\"embeddinh\""),
            name + ": tensors: \"embeddinh\": is not a tensor of the manifest");
  EXPECT_THAT(ErrorAfterRewritingPart("[5,9]", "[6,9]"), HasSubstr("\"embedding\": is not a tensor of the manifest"));
  EXPECT_THAT(ErrorAfterRewritingPart("[5,9]", "[1,9]"), HasSubstr("must lie within the tensor"));
  EXPECT_THAT(ErrorAfterRewritingPart("[8,6],[", "[8,6],[999999,"), HasSubstr("must lie within"));
}

// By the last byte of the last slice.
TEST_F(DamageTest, ASliceBeyondItsFileIsRefused) {
  ChangeSlices("embedding", [&](std::vector<ManifestSlice>* slices) {
    const auto file_bytes = static_cast<int64_t>(Read("rank-00000.bin").size());
    slices->back().byte_offset = file_bytes - slices->back().box.extent.elements() * 4 + 1;
  });
  EXPECT_THAT(LoadAll(), AllOf(HasSubstr(In("rank-00000.json")), HasSubstr("\"embedding\""),
                               HasSubstr("must lie within its file")));
}

// A tensor larger than its slices.
TEST_F(DamageTest, ElementsThatNoSliceHoldsAreAnError) {
  ChangeSlices("embedding", [](std::vector<ManifestSlice>* slices) { slices->pop_back(); });
  const std::string error = LoadAll();
  EXPECT_THAT(error, AllOf(HasSubstr(In("manifest.json: tensor \"embedding\" [5, 9]: the slices leave a part of it to no ")),
                           HasSubstr("of 45 elements")));
  EXPECT_THAT(LoadOnAll(checkpoint_, state_, 3, 0), HasSubstr(error));
}

// As many elements as the tensor has, but some twice and some not at all.
TEST_F(DamageTest, SlicesThatOverlapAreAnError) {
  ChangeSlices("embedding", [](std::vector<ManifestSlice>* slices) {
    for (ManifestSlice& slice : *slices) slice.box.offset[0] = slice.box.offset[0] == 0 ? 1 : slice.box.offset[0] - 1;
  });
  EXPECT_THAT(LoadAll(), AllOf(HasSubstr(In("manifest.json: tensor \"")), HasSubstr("overlap")));
  EXPECT_THAT(LoadOnAll(checkpoint_, state_, 3, 0),
              AllOf(HasSubstr(In("manifest.json: tensor \"")), HasSubstr("overlap")));
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
  Manifest manifest;
  manifest.step = 7;
  manifest.trainer_state = std::string("a\0b", 3);
  manifest.parts = {{.rank = 0, .file_bytes = 5, .part_bytes = 300, .part_crc = 1},
                    {.rank = 3, .file_bytes = int64_t{1} << 40, .part_bytes = 128, .part_crc = 4294967295u}};
  manifest.tensors = {{"scalar", DType::kInt32, {}, 1}, {"w", DType::kBFloat16, {4, 5}, 3}};
  const std::string packed = PackManifest(manifest);
  const Manifest same = UnpackManifest(packed);
  EXPECT_EQ(PackManifest(same), packed);
  EXPECT_EQ(same.trainer_state, manifest.trainer_state);
  EXPECT_EQ(EncodeManifest(same), EncodeManifest(manifest));
  EXPECT_EQ(same.FileBytes(), (std::map<int, int64_t>{{0, 5}, {3, int64_t{1} << 40}}));
}

TEST(Manifest, PackedNumbersAreThemselves) {
  Packer packer;
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const std::vector<int64_t> numbers = {0, 1, 127, 128, 16383, 16384, int64_t{1} << 62, kMost};
  for (const int64_t number : numbers) packer.Number(number);
  packer.Text("x");
  Unpacker unpacker(packer.bytes());
  for (const int64_t number : numbers) EXPECT_EQ(unpacker.Number(), number);
  EXPECT_FALSE(unpacker.done());
  EXPECT_EQ(unpacker.Text(), "x");
  EXPECT_TRUE(unpacker.done());
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
