#include "model/model_text.h"

#include <glog/logging.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "training/config/validate.h"

namespace trefoil {
namespace {

// A config with these fields of the model and the task, filled.
ModelConfig ModelOf(const std::string& model, const std::string& task = "") {
  RunConfig config;
  CHECK(google::protobuf::TextFormat::ParseFromString("model { " + model + " } task { " + task + " }", &config));
  FillDefaults(&config, /*ranks=*/1, {});
  return config.model();
}

TEST(ModelTextTest, SaysWhatADecoderHas) {
  const ModelConfig gpt = ModelOf("family: GPT layers: 1 hidden: 64 heads: 1 vocabulary: 100 sequence_length: 16");
  EXPECT_EQ(ModelInWords(gpt), "GPT: 1 layer, hidden 64, 1 head, feed-forward 256, vocabulary 100");
  EXPECT_EQ(SampleSizeOf(gpt).Of(8), "8 x 16 tokens");
  EXPECT_EQ(SampleSizeOf(gpt).units, 16);
  const std::string llama = "family: LLAMA layers: 6 hidden: 192 heads: 6 vocabulary: 2048 sequence_length: 256 ";
  EXPECT_EQ(ModelInWords(ModelOf(llama + "kv_heads: 2")),
            "LLAMA: 6 layers, hidden 192, 6 heads (2 key/value), feed-forward 512, vocabulary 2048");
  EXPECT_EQ(ModelInWords(ModelOf(llama + "kv_heads: 2 head_dim: 64")),
            "LLAMA: 6 layers, hidden 192, 6 heads of 64 (2 key/value), feed-forward 512, vocabulary 2048");
}

TEST(ModelTextTest, SaysTheHeadOfAnEncoder) {
  const std::string bert = "family: BERT layers: 2 hidden: 64 heads: 4 vocabulary: 100 sequence_length: 16 ";
  const std::string all = "BERT: 2 layers, hidden 64, 4 heads, feed-forward 256, vocabulary 100";
  EXPECT_EQ(ModelInWords(ModelOf(bert)), all);
  EXPECT_EQ(ModelInWords(ModelOf(bert + "classes: 45", "kind: TEXT_CLASSES")), all + ", 45 classes");
  EXPECT_EQ(ModelInWords(ModelOf(bert, "kind: TEXT_VALUE")), all + ", a number for each text");
  EXPECT_EQ(SampleSizeOf(ModelOf(bert)).Of(8), "8 x 16 tokens");
}

TEST(ModelTextTest, SaysBothSidesOfAnEncoderDecoder) {
  const ModelConfig translator = ModelOf("family: TRANSFORMER layers: 6 decoder_layers: 3 hidden: 64 heads: 4 "
                                         "vocabulary: 100 sequence_length: 16 decoder_length: 20");
  EXPECT_EQ(ModelInWords(translator), "TRANSFORMER: 6 + 3 layers, hidden 64, 4 heads, feed-forward 256, vocabulary 100");
  EXPECT_EQ(SampleSizeOf(translator).Of(8), "8 x (16 + 20) tokens");
  EXPECT_EQ(SampleSizeOf(translator).units, 36);
}

TEST(ModelTextTest, SaysTheImagesOfVision) {
  const std::string vit = "family: VIT layers: 12 hidden: 768 heads: 12 image_size: 224 patch_size: 16 ";
  const ModelConfig classes = ModelOf(vit + "classes: 1000");
  EXPECT_EQ(ModelInWords(classes),
            "VIT: 12 layers, hidden 768, 12 heads, feed-forward 3072, 224x224x3 pixels in patches of 16, 1000 classes");
  EXPECT_EQ(SampleSizeOf(classes).Of(8), "8 images of 196 patches");
  EXPECT_EQ(SampleSizeOf(classes).units, 1);
  EXPECT_STREQ(SampleSizeOf(classes).unit, "images");
  const ModelConfig masked = ModelOf(vit, "kind: PATCHES");
  EXPECT_EQ(ModelInWords(masked), "VIT: 12 layers, hidden 768, 12 heads, feed-forward 3072, decoder of 8 layers, hidden 512, "
                               "16 heads, 224x224x3 pixels in patches of 16");
  EXPECT_EQ(SampleSizeOf(masked).Of(8), "8 images of 196 patches (49 seen)");
}

TEST(ModelTextTest, SaysNoHeadsOfARecurrentNetwork) {
  const std::string lstm = "layers: 2 hidden: 64 vocabulary: 100 sequence_length: 16 ";
  EXPECT_EQ(ModelInWords(ModelOf("family: LSTM " + lstm)), "LSTM: 2 layers, hidden 64, vocabulary 100");
  EXPECT_EQ(ModelInWords(ModelOf("family: RNN bidirectional: true classes: 3 " + lstm, "kind: TEXT_CLASSES")),
            "RNN: 2 layers of both directions, hidden 64, vocabulary 100, 3 classes");
}

}  // namespace
}  // namespace trefoil
