// Files that lie: each is one clear error, or what it says; none reads beyond anything, or takes memory that it only
// names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "exchange/gguf.h"
#include "exchange/import_model.h"
#include "exchange/safetensors.h"
#include "exchange/weights_in.h"
#include "model/model.h"
#include "tests/exchange/exchange_testing.h"

namespace trefoil {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string ReadText(const std::string& path) { return *ReadFile(FileSystem::Posix(), path); }

class HostileTest : public testing::Test {
 protected:
  HostileTest() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << content;
  }
  // A file with this header and so many bytes of elements.
  void WriteSafetensors(const std::string& header, size_t bytes, const std::string& name = "model.safetensors") {
    const uint64_t length = header.size();
    std::string content(reinterpret_cast<const char*>(&length), 8);
    Write(name, content + header + std::string(bytes, '\0'));
  }
  // What opening the folder's weights says.
  std::string Error() const {
    const auto opened = OpenSafetensors(FileSystem::Posix(), folder_);
    return opened.ok() ? "" : std::string(opened.status().message());
  }

  const std::string folder_ = testing::TempDir() + "/hostile";
};

TEST_F(HostileTest, SafetensorsThatBreakTheRules) {
  WriteSafetensors(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 8);
  EXPECT_EQ(Error(), "");
  WriteSafetensors(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 7);
  EXPECT_THAT(Error(), HasSubstr("truncated"));
  WriteSafetensors(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 9);
  EXPECT_THAT(Error(), HasSubstr("the file at"));
  WriteSafetensors(
      R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}})",
      12);
  EXPECT_THAT(Error(), AllOf(HasSubstr("b begins at byte"), HasSubstr("one behind the other")));
  WriteSafetensors(R"({"a": {"dtype": "F32", "shape": [9223372036854775807, 4], "data_offsets": [0, 8]}})", 8);
  EXPECT_THAT(Error(), HasSubstr("shape must be a list of sizes"));
  WriteSafetensors(R"({"a": {"dtype": "F32", "shape": [1073741824, 1073741824, 1073741824], "data_offsets": [0, 8]}})",
                   8);
  EXPECT_THAT(Error(), HasSubstr("has another number"));
  WriteSafetensors(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [18446744073709551608, 0]}})", 8);
  EXPECT_THAT(Error(), HasSubstr("data_offsets must be two sizes"));
  WriteSafetensors(R"({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}})", 8);
  EXPECT_THAT(Error(), HasSubstr("shape must be a list of sizes"));
  WriteSafetensors(R"({"a": {"dtype": "Q4_1", "shape": [32], "data_offsets": [0, 20]}})", 20);
  EXPECT_THAT(Error(), HasSubstr("dtype Q4_1 is not known"));
  WriteSafetensors(
      R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": {"dtype": "F32", "shape": [0], "data_offsets": [8, 8]}})",
      8);
  EXPECT_THAT(Error(), HasSubstr("the key \"a\" twice"));
  WriteSafetensors("[" + std::string(100000, '[') + "]", 8);
  EXPECT_THAT(Error(), HasSubstr("deeper in each other than 64"));
  WriteSafetensors("{\"a\": nonsense}", 8);
  EXPECT_THAT(Error(), HasSubstr("broken JSON"));
  Write("model.safetensors", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10));
  EXPECT_THAT(Error(), HasSubstr("its header would have 9223372036854775807 bytes"));
  Write("model.safetensors", "abc");
  EXPECT_THAT(Error(), HasSubstr("has 3 bytes"));
}

TEST_F(HostileTest, AnIndexThatLeadsElsewhere) {
  const std::string one = R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})";
  WriteSafetensors(one, 8, "model-00001-of-00001.safetensors");
  const auto index = [&](const std::string& map) {
    Write("model.safetensors.index.json", "{\"metadata\": {}, \"weight_map\": " + map + "}");
  };
  index(R"({"a": "model-00001-of-00001.safetensors"})");
  EXPECT_EQ(Error(), "");
  index(R"({"a": "../model-00001-of-00001.safetensors"})");
  EXPECT_THAT(Error(), HasSubstr("must be a name in this folder"));
  index(R"({"a": "model-00001-of-00001.safetensors", "b": "model-00001-of-00001.safetensors"})");
  EXPECT_THAT(Error(), HasSubstr("not in the files that it says: b"));
  index("{}");
  EXPECT_EQ(Error(), "");
  index(R"({"a": 3})");
  EXPECT_THAT(Error(), HasSubstr("must be a file's name"));
  const std::string outside = testing::TempDir() + "/outside.safetensors";
  std::filesystem::copy_file(folder_ + "/model-00001-of-00001.safetensors", outside,
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::create_symlink(outside, folder_ + "/link.safetensors");
  index(R"({"a": "link.safetensors"})");
  EXPECT_THAT(Error(), AllOf(HasSubstr("is a link to"), HasSubstr("out of its folder")));
}

TEST_F(HostileTest, LinksOfTheHubsCacheAreFollowed) {
  std::filesystem::create_directories(folder_ + "/models--a/blobs");
  std::filesystem::create_directories(folder_ + "/models--a/snapshots/123");
  WriteSafetensors(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 8, "models--a/blobs/f00");
  const std::string snapshot = folder_ + "/models--a/snapshots/123";
  std::filesystem::create_symlink("../../blobs/f00", snapshot + "/model.safetensors");
  EXPECT_TRUE(OpenSafetensors(FileSystem::Posix(), snapshot).ok());
}

TEST_F(HostileTest, PicklesAreNotRead) {
  Write("pytorch_model.bin", "\x80\x02");
  EXPECT_THAT(Error(), AllOf(HasSubstr("Python pickles"), HasSubstr("save_pretrained")));
}

TEST_F(HostileTest, ConfigsThatAreNotUnderstood) {
  for (const auto& file : std::filesystem::directory_iterator("tests/exchange/models/llama2")) {
    std::filesystem::copy_file(file.path(), folder_ + "/" + file.path().filename().string());
  }
  const auto error = [&](const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json config = nlohmann::json::parse(ReadText("tests/exchange/models/llama2/config.json"));
    change(config);
    Write("config.json", config.dump());
    const auto opened = OpenImport(FileSystem::Posix(), folder_, {"harmless"});
    return opened.ok() ? "" : std::string(opened.status().message());
  };
  EXPECT_EQ(error([](auto&) {}), "");
  EXPECT_EQ(error([](auto& config) { config["harmless"] = 3; }), "");
  EXPECT_THAT(error([](auto& config) {
                config["quantization_config"] = {{"bits", 4}};
              }),
              AllOf(HasSubstr("quantization_config"), HasSubstr("not understood")));
  // All at once.
  EXPECT_THAT(error([](auto& config) {
                config["hidden_size"] = -3;
                config["hidden_act"] = "softsign";
                config["new_idea"] = true;
                config.erase("num_hidden_layers");
              }),
              AllOf(HasSubstr("hidden_size: -3"), HasSubstr("softsign"), HasSubstr("new_idea"),
                    HasSubstr("num_hidden_layers: missing")));
  EXPECT_THAT(error([](auto& config) { config["model_type"] = "mamba"; }),
              AllOf(HasSubstr("\"mamba\""), HasSubstr("legal: ")));
  EXPECT_THAT(error([](auto& config) {
                config["rope_parameters"] = {{"rope_type", "longrope"}};
              }),
              HasSubstr("longrope"));
  Write("config.json", "{");
  EXPECT_THAT(OpenImport(FileSystem::Posix(), folder_, {}).status().message(), HasSubstr("broken JSON"));
}

TEST_F(HostileTest, TensorsThatAreMissingOrTooMany) {
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(std::string("tests/exchange/models/llama2/") + name, folder_ + "/" + name);
  }
  nlohmann::json config = nlohmann::json::parse(ReadText(folder_ + "/config.json"));
  config["num_hidden_layers"] = 1;
  config["intermediate_size"] = 39;
  config["attention_bias"] = false;
  config["vocab_size"] = 62;
  Write("config.json", config.dump());
  auto source = OpenImport(FileSystem::Posix(), folder_, {});
  ASSERT_TRUE(source.ok()) << source.status();
  FillModel(&source->foreign);
  const ParameterTable table = DeclareModel(source->foreign.model);
  const auto matched = WeightsIn::Match(*source->tensors, *source->family, source->foreign.model, table, false);
  ASSERT_FALSE(matched.ok());
  EXPECT_THAT(matched.status().message(), AllOf(HasSubstr("model.embed_tokens.weight is [61, 24] and must be [62, 24]"),
                                                HasSubstr("[39, 24]"), HasSubstr("unknown: model.layers.1.")));
}

// Whatever a byte is changed to.
template <typename Open>
void ChangeBytes(const std::string& whole, const std::string& path, size_t beginning, const Open& open) {
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    std::string changed = whole;
    const int changes = 1 + static_cast<int>(random() % 3);
    for (int k = 0; k < changes; ++k) changed[random() % beginning] = static_cast<char>(random());
    if (random() % 8 == 0) changed.resize(random() % changed.size());
    std::ofstream(path, std::ios::binary) << changed;
    open();
  }
}

// Reads all that the tensors say they have.
void ReadEverything(const ForeignTensors& tensors) {
  for (const ForeignTensor& tensor : tensors.tensors()) {
    ASSERT_LE(tensor.elements(), int64_t{1} << 24) << "more than there are bytes for";
    (void)tensors.ReadAll(tensor);
  }
}

TEST_F(HostileTest, AnyBytesOfSafetensors) {
  const std::string whole = ReadText("tests/exchange/models/llama2/model.safetensors");
  uint64_t header;
  std::memcpy(&header, whole.data(), 8);
  int opened = 0;
  ChangeBytes(whole, folder_ + "/model.safetensors", static_cast<size_t>(header) + 8, [&] {
    const auto tensors = OpenSafetensors(FileSystem::Posix(), folder_);
    if (!tensors.ok()) return;
    ++opened;
    ReadEverything(**tensors);
  });
  EXPECT_GT(opened, 10);
}

TEST_F(HostileTest, AnyBytesOfGguf) {
  const std::string whole = ReadText("tests/exchange/gguf/llama.gguf");
  int opened = 0;
  ChangeBytes(whole, folder_ + "/a.gguf", whole.size() / 10, [&] {
    nlohmann::json metadata;
    const auto tensors = OpenGguf(FileSystem::Posix(), folder_ + "/a.gguf", &metadata);
    if (!tensors.ok()) return;
    ++opened;
    ReadEverything(**tensors);
    (void)OpenImport(FileSystem::Posix(), folder_ + "/a.gguf", {});
  });
  EXPECT_GT(opened, 10);
}

}  // namespace
}  // namespace trefoil
