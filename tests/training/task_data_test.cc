// What fields of task.* do to the samples that a run reads.
#include "training/tasks/task_data.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "data/images/image_file.h"
#include "tests/training/run_testing.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

RunConfig Filled(const std::string& text) {
  RunConfig config;
  CHECK(google::protobuf::TextFormat::ParseFromString(
      text + " folder: 'unused' training { steps: 1 global_batch: 2 precision: FP32 }", &config));
  FillDefaults(&config, 1, {});
  const std::vector<std::string> violations = Violations(config, 1);
  CHECK(violations.empty()) << violations.front();
  return config;
}

Batch First(const RunConfig& config) {
  const auto data = OpenTaskData(config, TaskData::Part::kTrain);
  CHECK(data.ok()) << data.status();
  auto batch = data->samples->Get(0, 8);
  CHECK(batch.ok()) << batch.status();
  return *std::move(batch);
}

// Twelve images of 4 x 4 in two classes, no two pixels alike.
RunConfig Images(const std::string& task) {
  const std::string folder = NewFolder("images");
  const ImageFormat format = {.height = 4, .width = 4, .channels = 1, .classes = {"a", "b"}};
  std::vector<int32_t> labels;
  for (int i = 0; i < 12; ++i) labels.push_back(i % 2);
  auto writer = ImageFileWriter::Create(FileSystem::Posix(), folder + "/train-00000.images", format, labels);
  CHECK(writer.ok()) << writer.status();
  for (int i = 0; i < 12; ++i) {
    std::vector<uint8_t> values;
    for (int v = 0; v < 16; ++v) values.push_back(static_cast<uint8_t>(20 * i + v));
    CHECK((*writer)->Add(values).ok());
  }
  CHECK((*writer)->Finish().ok());
  return Filled("data { train: '" + folder + "/train-*' } model { family: VIT layers: 1 hidden: 8 heads: 2 image_size: 4 "
                "patch_size: 2 channels: 1 classes: 2 } task { " + task + " }");
}

// task.crop, task.crop_padding, task.flip, task.pixel_mean, task.pixel_deviation, task.examples.
TEST(TaskData, FieldsOfImages) {
  const std::vector<float> plain = First(Images("")).patches.values<float>();
  for (const char* task : {"crop: 0.3", "crop_padding: 2", "flip: true", "pixel_mean: 0.1", "pixel_deviation: 0.2"}) {
    EXPECT_NE(First(Images(task)).patches.values<float>(), plain) << task;
  }
  // task.class_names are the data's, in their order.
  EXPECT_TRUE(OpenTaskData(Images("class_names: 'a' class_names: 'b'"), TaskData::Part::kTrain).ok());
  const auto others = OpenTaskData(Images("class_names: 'b' class_names: 'a'"), TaskData::Part::kTrain);
  EXPECT_EQ(others.status().message().substr(0, 28), "task.class_names: b, a, but ") << others.status();
  const auto few = OpenTaskData(Images("examples: 4"), TaskData::Part::kTrain);
  ASSERT_TRUE(few.ok()) << few.status();
  EXPECT_EQ(few->samples->samples(), 4);
}

// task.first_symbol, task.end_of_text, and model.targets, which follows from the task.
TEST(TaskData, SymbolsOfTexts) {
  const std::string folder = NewFolder("texts");
  WriteTokens(folder + "/train", LearnableIds(40 * 16, 61, 1), 61);
  const auto text = [&](const std::string& task) {
    return Filled("data { train: '" + folder + "/train' } model { family: BERT layers: 1 hidden: 8 heads: 2 "
                  "vocabulary: 80 sequence_length: 16 } task { " + task + " }");
  };
  const RunConfig config = text("first_symbol: 61");
  EXPECT_EQ(config.model().targets(), 2);
  const Batch batch = First(config);
  EXPECT_EQ(batch.inputs.values<int32_t>().front(), 61);
  EXPECT_EQ(batch.targets.shape()[1], 2);
  EXPECT_EQ(First(text("first_symbol: 70")).inputs.values<int32_t>().front(), 70);
  const RunConfig spans = Filled("data { train: '" + folder + "/train' } model { family: T5 layers: 1 hidden: 8 heads: 2 "
                                 "vocabulary: 200 sequence_length: 16 } task { first_symbol: 61 end_of_text: 5 }");
  EXPECT_EQ(First(spans).decoder_inputs.values<int32_t>().front(), 5);
}

// task.whole_words: words are not all of one length, so that places may stay without use, and batches have weights.
TEST(TaskData, WholeWordsNeedATokenizer) {
  const std::string folder = NewFolder("words");
  WriteTokens(folder + "/train", LearnableIds(40 * 16, 61, 1), 61);
  const auto data = OpenTaskData(
      Filled("data { train: '" + folder + "/train' tokenizer: '" + folder + "/none' } model { family: BERT layers: 1 "
             "hidden: 8 heads: 2 vocabulary: 80 sequence_length: 16 } task { first_symbol: 61 whole_words: true }"),
      TaskData::Part::kTrain);
  EXPECT_FALSE(data.ok());
}

}  // namespace
}  // namespace trefoil
