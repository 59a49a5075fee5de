#include "launcher/commands/images.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "data/images/image_set.h"
#include "data/images/resize.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "tests/data/images/image_testing.h"
#include "tests/runtime/files/fault_file_system.h"

namespace trefoil {
namespace {

class Images : public testing::Test {
 protected:
  // Seven cats as PNG and three dogs as JPEG, each of another size and brightness.
  void SetUp() override {
    for (int i = 0; i < 10; ++i) {
      const std::string folder = folder_ + "/photos/" + (i < 7 ? "cat" : "dog");
      ASSERT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
      Image picture = SmoothImage(12 + i, 20 - i, 3);
      for (uint8_t& value : picture.values) value = static_cast<uint8_t>(value / 4 + 16 * i);
      WriteContent(folder + "/" + std::to_string(i) + (i < 7 ? ".png" : ".jpg"),
                   i < 7 ? PngOf(picture) : JpegOf(picture));
      pictures_.push_back(picture);
    }
    run_.input = folder_ + "/photos";
    run_.output = folder_ + "/packed/train";
    run_.size = 8;
  }

  // Runs on `ranks` ranks; every rank has the same status. The summary is left in summary_.
  absl::Status Run(int ranks = 1, FileSystem& fs = FileSystem::Posix()) {
    std::vector<absl::Status> statuses(ranks);
    std::ostringstream out;
    RunRanksAsThreads(ranks, [&](World& world) {
      auto device = NewCpuDevice(1);
      auto group = world.NewGroupOfAll(*device);
      statuses[world.rank()] = RunImages(fs, run_, *group, out);
    });
    for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]);
    summary_ = out.str();
    return statuses[0];
  }

  // Name -> content of the files of the output's folder.
  std::map<std::string, std::string> Output() {
    std::map<std::string, std::string> contents;
    const std::string folder = FolderOf(run_.output);
    for (const std::string& path : Glob(folder + "/*")) contents[path.substr(folder.size() + 1)] = Content(path);
    return contents;
  }

  std::vector<uint8_t> ImageOf(const ImageSet& set, int64_t index) {
    std::vector<uint8_t> image(static_cast<size_t>(set.format().bytes()));
    EXPECT_TRUE(set.Read(index, image).ok());
    return image;
  }

  ImageSet Open(const std::string& glob) {
    auto set = ImageSet::Open({glob});
    EXPECT_TRUE(set.ok()) << set.status();
    return *std::move(set);
  }

  const std::string folder_ = TestFolder();
  std::vector<Image> pictures_;
  std::string summary_;
  ImagesRun run_;
};

TEST_F(Images, FoldersAreClasses) {
  ASSERT_TRUE(Run().ok());
  const ImageSet set = Open(run_.output + "-*");
  EXPECT_EQ(set.format(), (ImageFormat{.height = 8, .width = 8, .channels = 3, .classes = {"cat", "dog"}}));
  ASSERT_EQ(set.images(), 10);
  for (int64_t i = 0; i < 10; ++i) {
    EXPECT_EQ(set.label(i), i < 7 ? 0 : 1);
    const std::vector<uint8_t> expected = CoverAndCrop(pictures_[i], 8, 8).values, image = ImageOf(set, i);
    const int slack = i < 7 ? 0 : 2;  // a JPEG is not exact
    for (size_t k = 0; k < image.size(); ++k) EXPECT_NEAR(image[k], expected[k], slack) << i;
  }
  EXPECT_NE(summary_.find("images       10 of 8 x 8 in colour, 2 classes, 0.0 MB\n"), std::string::npos) << summary_;
  EXPECT_NE(summary_.find("packed/train-*, 10 images (100.0%), 1 file\n"), std::string::npos) << summary_;
  EXPECT_NE(summary_.find("classes      0    cat                  7\n"), std::string::npos) << summary_;
  EXPECT_NE(summary_.find("             1    dog                  3\n"), std::string::npos) << summary_;
  run_.channels = 1;
  run_.overwrite = true;
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(Open(run_.output + "-*").format().channels, 1);
}

TEST_F(Images, AShareOfEachClassIsHeldOut) {
  run_.held_out = 0.3;
  run_.shards = 3;
  std::map<std::string, std::string> reference;
  for (const int ranks : {1, 3}) {
    run_.output = folder_ + "/packed" + std::to_string(ranks) + "/train";
    const absl::Status status = Run(ranks);
    ASSERT_TRUE(status.ok()) << status;
    if (reference.empty()) reference = Output();
    EXPECT_TRUE(Output() == reference) << "any number of ranks writes the same";
  }
  EXPECT_EQ(reference.size(), 4u);
  const ImageSet train = Open(run_.output + "-*"), held_out = Open(folder_ + "/packed3/held_out-*");
  EXPECT_EQ(train.files().size(), 3u);
  EXPECT_EQ(train.images(), 7);
  EXPECT_EQ(held_out.images(), 3);  // 2.1 of 7, 0.9 of 3
  EXPECT_EQ(held_out.label(1), 0);
  EXPECT_EQ(held_out.label(2), 1);
  EXPECT_EQ(train.format(), held_out.format());
  std::set<std::vector<uint8_t>> all;
  for (int64_t i = 0; i < 7; ++i) all.insert(ImageOf(train, i));
  for (int64_t i = 0; i < 3; ++i) all.insert(ImageOf(held_out, i));
  EXPECT_EQ(all.size(), 10u) << "each picture on one side";
  EXPECT_NE(summary_.find("cat                  5 + 2 held out\n"), std::string::npos) << summary_;
  std::set<std::vector<uint8_t>> choices;
  for (uint64_t seed = 1; seed < 9; ++seed) {
    run_.split_seed = seed;
    run_.overwrite = true;
    ASSERT_TRUE(Run().ok());
    choices.insert(ImageOf(Open(folder_ + "/packed3/held_out-*"), 2));
  }
  EXPECT_GT(choices.size(), 1u);
}

TEST_F(Images, IdxFilesAreTakenAsTheyAre) {
  const std::vector<LabelledImage> digits = {
      {{0, 1, 2, 3, 4, 5}, 2}, {{6, 7, 8, 9, 10, 11}, 0}, {{255, 0, 0, 0, 0, 255}, 2}};
  WriteContent(folder_ + "/images.gz", Gzip(IdxImages(2, 3, digits)));
  WriteContent(folder_ + "/labels.gz", Gzip(IdxLabels(digits)));
  run_ = {.input = "",
          .images = folder_ + "/images.gz",
          .labels = folder_ + "/labels.gz",
          .output = folder_ + "/mnist/train"};
  ASSERT_TRUE(Run().ok());
  const ImageSet set = Open(run_.output + "-*");
  EXPECT_EQ(set.format(), (ImageFormat{.height = 2, .width = 3, .channels = 1, .classes = {"0", "1", "2"}}));
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(ImageOf(set, i), digits[static_cast<size_t>(i)].values);
    EXPECT_EQ(set.label(i), digits[static_cast<size_t>(i)].label);
  }
  run_.output = folder_ + "/mnist/small";
  run_.size = 1;
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(Open(run_.output + "-*").format().bytes(), 1);
  EXPECT_EQ(Output().size(), 2u) << "another name, the same folder";
}

TEST_F(Images, AnOutputThatIsThereIsReplacedOnlyWhenAsked) {
  run_.shards = 2;
  ASSERT_TRUE(Run().ok());
  WriteContent(folder_ + "/packed/held_out-00000.images", "mine");
  run_.shards = 1;
  run_.channels = 1;
  ExpectError(Run(2), {"output: " + folder_ + "/packed already has train-00000.images", "--overwrite"});
  run_.overwrite = true;
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(Output().count("train-00001.images"), 0u);
  EXPECT_EQ(Output()["held_out-00000.images"], "mine") << "this run holds out nothing";
}

TEST_F(Images, FailureLeavesNothing) {
  std::ofstream(folder_ + "/photos/dog/zz.txt") << "no picture";
  ExpectError(Run(2), {"photos/dog/zz.txt: not an image", "6e6f2070696374"});
  EXPECT_TRUE(Output().empty());
  WriteContent(folder_ + "/photos/dog/zz.txt", PngOf(pictures_[0]).substr(0, 100));
  ExpectError(Run(2), {"photos/dog/zz.txt: not a whole PNG"});
  EXPECT_TRUE(Output().empty());
  ASSERT_TRUE(FileSystem::Posix().Remove(folder_ + "/photos/dog/zz.txt").ok());
  FaultFileSystem fs(FileSystem::Posix());
  fs.FillAfter(1000);
  ExpectError(Run(2, fs), {"no space left"});
  EXPECT_TRUE(Output().empty());
}

TEST_F(Images, AKilledRunIsNotTakenForAWholeOne) {
  run_.shards = 3;
  for (int64_t call = 0;; ++call) {
    run_.output = folder_ + "/packed" + std::to_string(call) + "/train";
    FaultFileSystem fs(FileSystem::Posix());
    fs.CrashAt(call);
    const bool ok = Run(1, fs).ok();
    const size_t files = Glob(run_.output + "-*.images").size();
    EXPECT_TRUE(files == 3 || FileSystem::Posix().Exists(FolderOf(run_.output) + "/partial") || files == 0) << call;
    if (ok && !fs.crashed()) break;
    ASSERT_LT(call, 100);
  }
}

TEST_F(Images, BadOptionsAreExplained) {
  const auto expect = [&](const auto& change, const std::vector<std::string>& parts) {
    const ImagesRun good = run_;
    change(run_);
    ExpectError(Run(2), parts);
    run_ = good;
    EXPECT_TRUE(Output().empty());
  };
  expect([](ImagesRun& run) { run.input = ""; }, {"input: empty", "--input", "--images, --labels"});
  expect([](ImagesRun& run) { run.images = "x"; }, {"input and images: both are given"});
  expect([](ImagesRun& run) { run.input = "", run.images = "x"; }, {"labels: empty", "are a pair"});
  expect([](ImagesRun& run) { run.input += "x"; }, {"photosx: no such file"});
  expect([](ImagesRun& run) { run.size = 0; }, {"size: 0", "224"});
  expect([](ImagesRun& run) { run.size = 20000; }, {"size: 20000 is not in [1, 16384]"});
  expect([](ImagesRun& run) { run.channels = 2; }, {"channels: 2; 1 is grey, 3 is colour"});
  expect([](ImagesRun& run) { run.output = ""; }, {"output: empty", "FOLDER/NAME", "images/train"});
  expect([](ImagesRun& run) { run.output = FolderOf(run.input); }, {" is a folder; give FOLDER/NAME", "/train"});
  expect([](ImagesRun& run) { run.output = "a/"; }, {"a/ is a folder", "for example: a/train"});
  expect([](ImagesRun& run) { run.held_out = 0.6; }, {"held_out: 0.6 is outside [0, 0.5]; nearest: 0.5"});
  expect([](ImagesRun& run) { run.held_out = 0.01; }, {"held_out: 0.01 of so few images (10 in 2 classes) is none"});
  expect([&](ImagesRun& run) { run.held_out = 0.2, run.output = folder_ + "/packed/held_out"; },
         {"is the name of what is held out"});
  expect([](ImagesRun& run) { run.shards = 11; }, {"shards: 11", "training images, 10"});
  const std::string empty = folder_ + "/photos/emu";
  ASSERT_TRUE(FileSystem::Posix().MakeFolder(empty).ok());
  expect([](ImagesRun&) {}, {"input: class ", "/emu has no pictures"});
  ASSERT_TRUE(FileSystem::Posix().MakeFolder(empty + "/young").ok());
  expect([](ImagesRun&) {}, {"/emu/young is a folder"});
  ASSERT_TRUE(FileSystem::Posix().Remove(empty).ok());
  WriteContent(folder_ + "/photos/readme", "x");
  expect([](ImagesRun&) {}, {"/photos/readme is a file"});
  ASSERT_TRUE(FileSystem::Posix().Remove(folder_ + "/photos/readme").ok());
  WriteContent(folder_ + "/photos/.hidden", "x");
  EXPECT_TRUE(Run().ok()) << "passed over";
}

}  // namespace
}  // namespace trefoil
