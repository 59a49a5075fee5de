// Models of every family as transformers has written them (tests/golden/make_hf_models.py): imported, they say what
// transformers' own networks say; exported and imported again, they are the same to the bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "exchange/export_model.h"
#include "exchange/import_model.h"
#include "launcher/prediction/golden_check.h"
#include "model/model.h"
#include "parallel/collectives/world.h"
#include "tests/exchange/exchange_testing.h"
#include "training/inference/predictor.h"

namespace trefoil {
namespace {

class ModelsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    // Here they may be links out of their folders.
    std::filesystem::remove_all(work_);
    std::filesystem::create_directories(folder_);
    for (const auto& file : std::filesystem::directory_iterator(std::string("tests/exchange/models/") + GetParam())) {
      std::filesystem::copy_file(file.path(), folder_ + "/" + file.path().filename().string());
    }
  }

  const std::string work_ = testing::TempDir() + "/" + GetParam();
  const std::string folder_ = work_ + "/model";
};

INSTANTIATE_TEST_SUITE_P(Families, ModelsTest,
                         testing::Values("gpt2", "gpt2_gelu", "llama2", "llama3", "llama_bias", "mistral", "qwen2", "qwen2_window", "qwen3",
                                         "smollm2", "bert_masked", "bert_classes", "bert_tokens", "t5", "t5_tied",
                                         "vit"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(ModelsTest, SaysWhatTransformersSays) {
  const ImportedRun run = Import(folder_, work_ + "/in", /*ranks=*/1);
  RunRanksAsThreads(1, [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    Predictor predictor(run.foreign.model, {}, world, *device);
    ASSERT_TRUE(predictor.Load(FileSystem::Posix(), run.checkpoint).ok());
    const auto compared = CompareWithGolden(FileSystem::Posix(), folder_ + "/" + kGoldenFile, predictor);
    ASSERT_TRUE(compared.ok()) << compared.status();
    EXPECT_GT(compared->rows, 1);
    EXPECT_LT(compared->difference, 5e-5) << compared->where;
    EXPECT_GT(compared->difference, 0);
  });
}

TEST_P(ModelsTest, GoesOutAndInAgainUnchanged) {
  const ImportedRun first = Import(folder_, work_ + "/first", /*ranks=*/2);
  Export(first, work_ + "/out", /*ranks=*/3, {.dtype = "F32", .shard_bytes = 9000});
  ImportedRun second = Import(work_ + "/out", work_ + "/second", /*ranks=*/1);
  EXPECT_EQ(second.foreign.model.DebugString(), first.foreign.model.DebugString());
  EXPECT_EQ(second.foreign.class_names, first.foreign.class_names);
  EXPECT_EQ(TensorsOf(second.checkpoint), TensorsOf(first.checkpoint));
}

}  // namespace
}  // namespace trefoil
