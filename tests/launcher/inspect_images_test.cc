#include <gmock/gmock.h>
#include <gtest/gtest.h>


#include "tests/data/images/image_testing.h"
#include "tests/launcher/inspect_testing.h"

namespace trefoil {
namespace {

using ::testing::HasSubstr;

class InspectImagesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = TestFolder();
    const ImageFormat format = {.height = 1, .width = 2, .channels = 1, .classes = {"cat", "dog"}};
    WriteImageFile(folder_ + "/train-00000.images", format, {{{0, 255}, 1}, {{0, 255}, 0}});
    WriteImageFile(folder_ + "/train-00001.images", format, {{{255, 0}, 1}});
  }
  std::string folder_;
};

TEST_F(InspectImagesTest, SaysNumberSizeAndClasses) {
  for (const std::string& path : {folder_, folder_ + "/train-*", folder_ + "/train-*.images"}) {
    const Seen seen = Look({.path = path, .verify = true});
    ASSERT_TRUE(seen.status.ok()) << seen.status;
    EXPECT_EQ(seen.text, "image files  2, " + folder_ + "/train-00000.images to " + folder_ + "/train-00001.images\n"
                         "images       3 of 1 x 2 in grey, 6 B\n"
                         "classes      0    cat                  1\n"
                         "             1    dog                  2\n"
                         "pixels       mean 0.500, deviation 0.500\n"
                         "whole        every byte is as it was written\n");
  }
  const Seen one = Look({.path = folder_ + "/train-00001"});
  ASSERT_TRUE(one.status.ok()) << one.status;
  EXPECT_THAT(one.text, HasSubstr("image files  " + folder_ + "/train-00001.images\nimages       1 of 1 x 2 in grey, 2 B\n"));
  EXPECT_THAT(one.text, HasSubstr("more         --verify reads them"));
}

TEST_F(InspectImagesTest, ManyClassesAreCutShort) {
  ImageFormat format = {.height = 1, .width = 1, .channels = 3, .classes = {}};
  for (int c = 0; c < 30; ++c) format.classes.push_back("c" + std::to_string(c));
  WriteImageFile(folder_ + "/many.images", format, {{{0, 51, 255}, 29}, {{0, 51, 255}, 29}});
  const Seen seen = Look({.path = folder_ + "/many.images", .verify = true});
  ASSERT_TRUE(seen.status.ok()) << seen.status;
  EXPECT_THAT(seen.text, HasSubstr("             19   c19                  0\n"
                                   "             ... 10 more; of all, the rarest occurs 0 times, the commonest 2 times\n"
                                   "pixels       mean 0.000 0.200 1.000, deviation 0.000 0.000 0.000\n"));
}

TEST_F(InspectImagesTest, NamesWhatIsDamaged) {
  const std::string path = folder_ + "/train-00000.images";
  const std::string whole = Content(path);
  std::string bytes = whole;
  bytes[bytes.size() - 6] = static_cast<char>(bytes[bytes.size() - 6] ^ 1);  // a pixel of the second image
  WriteContent(path, bytes);
  EXPECT_TRUE(Look({.path = path}).status.ok());
  const Seen pixel = Look({.path = path, .verify = true});
  EXPECT_TRUE(absl::IsDataLoss(pixel.status)) << pixel.status;
  EXPECT_THAT(pixel.status.message(), HasSubstr("1 of 2 images are damaged; the first: " + path + ": image 1"));
  EXPECT_THAT(pixel.text, HasSubstr("damaged      " + path + ": image 1"));
  bytes = whole;
  bytes[40] = static_cast<char>(bytes[40] ^ 1);  // the header
  WriteContent(path, bytes);
  EXPECT_THAT(Look({.path = folder_}).status.message(), HasSubstr(path + ": "));
  WriteContent(path, whole.substr(0, whole.size() - 3));
  EXPECT_THAT(Look({.path = path}).status.message(), HasSubstr(path + ": "));
  EXPECT_THAT(Look({.path = folder_ + "/none.images"}).status.message(), HasSubstr(folder_ + "/none.images"));
}

}  // namespace
}  // namespace trefoil
