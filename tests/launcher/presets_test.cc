#include "launcher/config/presets.h"

#include <gmock/gmock.h>
#include <glog/logging.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "launcher/commands/commands.h"
#include "launcher/config/config.h"
#include "model/model.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

using testing::ElementsAre;
using testing::StartsWith;

TEST(PresetsTest, HasThePromisedOnes) {
  std::vector<std::string> names;
  for (const Preset& preset : Presets()) names.emplace_back(preset.name);
  EXPECT_THAT(names,
              testing::UnorderedElementsAre("gpt2_124m", "gpt2_355m", "gpt2_774m", "gpt2_1558m", "gpt3_125m",
                                            "gpt3_350m", "gpt3_760m", "gpt3_1b3", "gpt3_2b7", "gpt3_6b7", "gpt3_13b",
                                            "gpt3_175b", "gpt_1t", "llama_60m", "llama_1b", "llama_7b", "llama_8b",
                                            "llama_70b", "llama_405b", "quickstart", "qwen25_1b5", "qwen25_7b",
                                            "qwen3_0b6", "mistral_7b",
                                            "bert_base", "bert_large", "modernbert_base", "modernbert_large",
                                            "transformer_base", "transformer_big", "t5_small", "t5_base", "t5_large",
                                            "t5_3b", "t5_11b", "vit_ti16", "vit_s16", "vit_b16", "vit_l16", "vit_h14",
                                            "vit_22b", "mae_vit_b16", "mae_vit_l16", "mae_vit_h14"));
}

TEST(PresetsTest, EachIsLegalOnceItHasData) {
  for (const Preset& preset : Presets()) {
    for (const int replicas : {1, 2}) {
      auto config = ReadConfig(FileSystem::Posix(), preset.name, {});
      ASSERT_TRUE(config.ok()) << config.status();
      EXPECT_EQ(config->folder(), std::string("runs/") + preset.name);
      const ParallelConfig& parallel = config->parallel();
      EXPECT_EQ(parallel.data(), 0) << preset.name << ": the data axis is what is left";
      const int ranks = std::max(1, parallel.tensor()) * std::max(1, parallel.pipeline()) * replicas;
      if (std::string(preset.name) == "quickstart") config->mutable_model()->set_vocabulary(4096);  // a tokenizer's
      FillDefaults(&*config, ranks, {.pays = true});
      EXPECT_THAT(Violations(*config, ranks), ElementsAre(StartsWith("data.train: empty"))) << preset.name;
    }
  }
}

TEST(ClustersTest, EachIsReadByItsNameOrPath) {
  std::vector<std::string> names;
  for (const Preset& cluster : Clusters()) {
    names.emplace_back(cluster.name);
    EXPECT_THAT(cluster.text, StartsWith("# ")) << cluster.name;
    for (const std::string& name : {std::string(cluster.name), std::string("clusters/") + cluster.name + ".pbtxt"}) {
      const auto read = ReadCluster(FileSystem::Posix(), name);
      ASSERT_TRUE(read.ok()) << read.status();
      EXPECT_TRUE(read->gpu());
      EXPECT_GT(read->network().gbytes_per_second(), 0);
    }
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre("selene_a100", "dgx_a100", "dgx_h100"));
}

TEST(PresetsTest, EachBeginsWithItsDescription) {
  for (const Preset& preset : Presets()) EXPECT_THAT(preset.text, StartsWith("# ")) << preset.name;
}

// Parameters counted from the shapes, by hand formulas of this test; the published figures within 3 percent.
TEST(PresetsTest, HasThePublishedSizes) {
  const struct {
    const char* name;
    double billions;
  } published[] = {{"gpt2_124m", 0.124}, {"gpt2_355m", 0.355}, {"gpt2_774m", 0.774}, {"gpt2_1558m", 1.558},
                   {"gpt3_125m", 0.125}, {"gpt3_350m", 0.356}, {"gpt3_760m", 0.760}, {"gpt3_1b3", 1.316},
                   {"gpt3_2b7", 2.65},   {"gpt3_6b7", 6.66},   {"gpt3_13b", 12.85},  {"gpt3_175b", 174.6},
                   {"gpt_1t", 1008.0},   {"llama_60m", 0.058}, {"llama_1b", 1.236},  {"llama_7b", 6.738},
                   {"llama_8b", 8.03},   {"llama_70b", 70.6},  {"llama_405b", 405.9}, {"qwen25_1b5", 1.544},
                   {"qwen25_7b", 7.61}, {"qwen3_0b6", 0.596}, {"mistral_7b", 7.24}};
  for (const auto& [name, billions] : published) {
    auto config = ReadConfig(FileSystem::Posix(), name, {});
    ASSERT_TRUE(config.ok()) << config.status();
    ModelConfig model = config->model();
    ModelDefaults(&model);
    const double hidden = model.hidden();
    const double query = 1.0 * model.head_dim() * model.heads();
    const double keys = 1.0 * model.head_dim() * model.kv_heads();
    double count = 0;
    if (model.family() == ModelConfig::GPT) {
      count = model.layers() * (hidden * (query + 2 * keys) + query * hidden + 2 * hidden * model.feed_forward()) +
              hidden * (model.vocabulary() + model.sequence_length());
    } else {
      count = model.layers() * (hidden * (query + 2 * keys) + query * hidden + 3 * hidden * model.feed_forward()) +
              (model.tied() ? 1 : 2) * hidden * model.vocabulary();
    }
    EXPECT_NEAR(count / 1e9 / billions, 1, 0.03) << name;
  }
}

// Of a preset with what `sets` change.
int64_t ParametersOf(const std::string& name, const std::vector<std::string>& sets = {}) {
  auto config = ReadConfig(FileSystem::Posix(), name, sets);
  CHECK(config.ok()) << config.status();
  FillDefaults(&*config, /*ranks=*/1, {.pays = true});
  return DeclareModel(config->model()).elements();
}

// A preset named after a public model has its parameters: the sum of the tensors in its owner's files.
TEST(PresetsTest, HasThePublishedModelsParameters) {
  const std::pair<const char*, int64_t> published[] = {
      {"gpt2_124m", 124'439'808},   {"gpt2_355m", 354'823'168},    {"gpt2_774m", 774'030'080},
      {"gpt2_1558m", 1'557'611'200}, {"llama_1b", 1'235'814'400},   {"llama_7b", 6'738'415'616},
      {"llama_8b", 8'030'261'248},  {"llama_70b", 70'553'706'496}, {"llama_405b", 405'853'388'800},
      {"qwen25_1b5", 1'543'714'304}, {"qwen25_7b", 7'615'616'512},
      {"qwen3_0b6", 596'049'920},   {"mistral_7b", 7'241'732'096},
      // The parameters of these, counted in transformers 4.48: ModernBertForMaskedLM, T5ForConditionalGeneration,
      // ViTForImageClassification with 1000 classes, ViTMAEForPreTraining, whose fixed positions are parameters too.
      {"modernbert_base", 149'655'232}, {"modernbert_large", 395'881'664},
      {"t5_small", 76'961'152}, {"t5_base", 247'577'856}, {"t5_large", 783'150'080}, {"t5_3b", 2'849'757'184},
      {"t5_11b", 11'135'332'352},
      {"vit_ti16", 5'717'416}, {"vit_s16", 22'050'664}, {"vit_b16", 86'567'656}, {"vit_l16", 304'326'632},
      {"vit_h14", 632'045'800},
      {"mae_vit_b16", 111'907'840}, {"mae_vit_l16", 329'541'888}, {"mae_vit_h14", 657'074'508}};
  for (const auto& [name, parameters] : published) EXPECT_EQ(ParametersOf(name), parameters) << name;
}

// BERT's published sizes differ by their heads (transformers 4.48).
TEST(PresetsTest, BertHasThePublishedParametersOfEachHead) {
  const struct {
    const char* name;
    int64_t hidden, masked_lm, model, pre_training, two_classes;
  } published[] = {{"bert_base", 768, 109'514'298, 109'482'240, 110'106'428, 109'483'778},
                   {"bert_large", 1024, 335'174'458, 335'141'888, 336'226'108, 335'143'938}};
  for (const auto& [name, c, masked_lm, model, pre_training, two_classes] : published) {
    // BertForMaskedLM.
    EXPECT_EQ(ParametersOf(name), masked_lm) << name;
    // BertForSequenceClassification, which is BertModel (the pooler with it) and a matrix of classes.
    const int64_t classes = ParametersOf(name, {"task.kind=TEXT_CLASSES", "model.classes=2"});
    EXPECT_EQ(classes, two_classes) << name;
    EXPECT_EQ(classes - (2 * c + 2), model) << name;
    // BertForPreTraining has the pooler and the head of next sentences beside that of masked tokens; no task here does.
    EXPECT_EQ(masked_lm + (c * c + c) + (2 * c + 2), pre_training) << name;
  }
}

// Vaswani et al. 2017 give 65 and 213 million with "about 37000" words. torch.nn.Transformer of these sizes has two norms
// more, behind either half, and no embedding.
TEST(PresetsTest, TransformerHasTheParametersOfTorchsAndItsEmbedding) {
  const struct {
    const char* name;
    int64_t hidden, of_torch;
    double paper;
  } published[] = {{"transformer_base", 512, 44'140'544, 65e6}, {"transformer_big", 1024, 176'361'472, 213e6}};
  for (const auto& [name, c, of_torch, paper] : published) {
    const int64_t parameters = ParametersOf(name);
    EXPECT_EQ(parameters, of_torch - 2 * 2 * c + 37000 * c) << name;
    EXPECT_NEAR(static_cast<double>(parameters) / paper, 1, 0.03) << name;
  }
}

// Dehghani et al. 2023 count 21,743 million, which are the matrices of the blocks. What it has more here: biases of all
// linear layers but q, k and v, norms with gain and bias (theirs have gains, and those of queries and keys), the
// patches' embedding, class token, positions, the last norm and the head.
TEST(PresetsTest, VitOf22BillionsHasThePublishedMatrices) {
  const int64_t c = 6144, layers = 48, classes = 30000, matrices = layers * 12 * c * c;
  EXPECT_EQ(matrices / 1'000'000, 21'743);
  const int64_t of_block = (c + 4 * c + c) + 2 * 2 * c;
  const int64_t others = (14 * 14 * 3 * c + c) + c + (1 + 16 * 16) * c + 2 * c + (classes * c + classes);
  EXPECT_EQ(ParametersOf("vit_22b"), matrices + layers * of_block + others);
}

TEST(PresetsTest, TheCommandListsThemWithTheirSizes) {
  std::string name = "presets";
  char* argv[] = {name.data(), nullptr};
  testing::internal::CaptureStdout();
  EXPECT_EQ(PresetsMain(1, argv), 0);
  const std::string out = testing::internal::GetCapturedStdout();
  EXPECT_THAT(out, testing::HasSubstr("gpt2_124m          124M  GPT-2 124M (Radford et al. 2019).\n"));
  EXPECT_THAT(out, testing::HasSubstr("\nllama_405b         406B  Llama 3 405B"));
  EXPECT_THAT(out, testing::HasSubstr("\ngpt_1t            1.01T  "));
  EXPECT_THAT(out, testing::HasSubstr("\nvit_b16           86.6M  ViT-B/16"));
  EXPECT_THAT(out, testing::HasSubstr("\nquickstart               Llama of 3"));
}

TEST(PresetsTest, TheCommandPrintsOneOrNamesTheNearest) {
  std::string name = "presets", preset = "llama_60m", wrong = "lama_60m";
  char* argv[] = {name.data(), preset.data(), nullptr};
  testing::internal::CaptureStdout();
  EXPECT_EQ(PresetsMain(2, argv), 0);
  EXPECT_THAT(testing::internal::GetCapturedStdout(), testing::HasSubstr("\nmodel {\n  family: LLAMA\n"));
  argv[1] = wrong.data();
  testing::internal::CaptureStderr();
  EXPECT_EQ(PresetsMain(2, argv), 2);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("did you mean 'llama_60m'?"));
}

}  // namespace
}  // namespace trefoil
