// GGUF files, as ggml's own package has written them (tests/golden/make_gguf.py).
#include "exchange/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "exchange/number_formats.h"
#include "exchange/safetensors.h"
#include "launcher/prediction/golden_check.h"
#include "parallel/collectives/world.h"
#include "tests/exchange/exchange_testing.h"
#include "training/inference/predictor.h"

namespace trefoil {
namespace {

const std::string kFolder = "tests/exchange/gguf/";

TEST(NumberFormatsTest, AreWhatGgmlSays) {
  const auto blocks = OpenSafetensors(FileSystem::Posix(), kFolder + "blocks.safetensors");
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  int formats = 0;
  for (const ForeignTensor& tensor : (*blocks)->tensors()) {
    if (!tensor.name.starts_with("bytes/")) continue;
    const NumberFormat* const format = FindNumberFormat(tensor.name.substr(6));
    ASSERT_NE(format, nullptr) << tensor.name;
    std::vector<std::byte> bytes;
    const auto numbers = (*blocks)->ReadAll(tensor);
    for (const float byte : *numbers) bytes.push_back(static_cast<std::byte>(byte));
    const auto wanted = (*blocks)->ReadAll(*(*blocks)->Find("values/" + tensor.name.substr(6)));
    const auto elements = static_cast<int64_t>(bytes.size()) / format->block_bytes * format->block_elements;
    ASSERT_EQ(elements, static_cast<int64_t>(wanted->size())) << tensor.name;
    std::vector<float> values(wanted->size());
    format->decode(bytes.data(), elements, values.data());
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(values[i], (*wanted)[i], 1e-6 * (1 + std::abs((*wanted)[i]))) << tensor.name << " element " << i;
    }
    ++formats;
  }
  EXPECT_EQ(formats, 8);
}

TEST(NumberFormatsTest, HalvesAreRoundedToTheNearest) {
  // Every half and, of neighbours, what lies between them: a tie goes to the even one.
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float value = HalfToFloat(static_cast<uint16_t>(bits));
    ASSERT_EQ(FloatToHalf(value), bits);
    ASSERT_EQ(FloatToHalf(-value), bits | 0x8000u);
    const float next = bits + 1 < 0x7c00 ? HalfToFloat(static_cast<uint16_t>(bits + 1)) : 65536.0f;
    const float middle = value + (next - value) / 2;
    ASSERT_EQ(FloatToHalf(middle), bits + bits % 2) << bits;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), bits) << bits;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 1e6f)), bits + 1) << bits;
  }
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(0x7bff), 65504.0f);
  EXPECT_TRUE(std::isinf(HalfToFloat(0xfc00)));
  EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(NAN))));
  EXPECT_EQ(FloatToHalf(1e10f), 0x7c00);
}

TEST(GgufTest, AModelSaysWhatTransformersSays) {
  const ImportedRun run = Import(kFolder + "llama.gguf", testing::TempDir() + "/gguf", /*ranks=*/2);
  RunRanksAsThreads(1, [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    Predictor predictor(run.foreign.model, {}, world, *device);
    ASSERT_TRUE(predictor.Load(FileSystem::Posix(), run.checkpoint).ok());
    const auto compared = CompareWithGolden(FileSystem::Posix(), kFolder + kGoldenFile, predictor);
    ASSERT_TRUE(compared.ok()) << compared.status();
    EXPECT_EQ(compared->rows, 48);
    EXPECT_LT(compared->difference, 5e-5) << compared->where;
  });
}

TEST(GgufTest, HasItsTokenizer) {
  const auto source = OpenImport(FileSystem::Posix(), kFolder + "llama.gguf", {});
  ASSERT_TRUE(source.ok()) << source.status();
  const auto json = nlohmann::json::parse(source->tokenizer_json),
             config = nlohmann::json::parse(source->tokenizer_config);
  EXPECT_EQ(json["model"]["vocab"]["ab"], 3);
  EXPECT_EQ(json["added_tokens"].size(), 3);
  EXPECT_EQ(json["added_tokens"][2]["content"], "<|im_end|>");
  EXPECT_EQ(json["pre_tokenizer"]["pretokenizers"][0]["type"], "Digits");
  EXPECT_EQ(config["eos_token"], "<|im_end|>");
  EXPECT_EQ(config["bos_token"], "<|im_start|>");
  EXPECT_THAT(config["chat_template"].get<std::string>(), testing::HasSubstr("m.content"));
}

}  // namespace
}  // namespace trefoil
