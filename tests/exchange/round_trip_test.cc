// Models of random sizes and random weights: out by some ranks, in by others, on four layouts, and the same to the bit.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <functional>
#include <random>

#include "checkpoint/directory.h"
#include "checkpoint/writer.h"
#include "model/model.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "tests/exchange/exchange_testing.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

class Draw {
 public:
  explicit Draw(uint64_t seed) : generator_(seed) {}
  int32_t Of(std::initializer_list<int32_t> values) {
    return values.begin()[std::uniform_int_distribution<size_t>(0, values.size() - 1)(generator_)];
  }
  bool Coin() { return Of({0, 1}) == 1; }
  uint32_t Bits() { return static_cast<uint32_t>(generator_()); }

 private:
  std::mt19937_64 generator_;
};

ForeignModel DecoderOf(Draw& draw, ModelConfig::Family family) {
  ForeignModel foreign = {.task = "NEXT_TOKEN"};
  ModelConfig& model = foreign.model;
  model.set_family(family);
  model.set_layers(draw.Of({1, 2, 11}));
  model.set_heads(draw.Of({1, 2, 4}));
  model.set_vocabulary(draw.Of({7, 64, 101}));
  model.set_sequence_length(draw.Of({5, 16}));
  model.set_feed_forward(draw.Of({3, 24, 40}));
  model.set_tied(draw.Coin());
  model.set_hidden(model.heads() * draw.Of({2, 6}));
  return foreign;
}

ForeignModel Gpt2(Draw& draw) {
  ForeignModel foreign = DecoderOf(draw, ModelConfig::GPT);
  foreign.model.set_dropout(draw.Coin() ? 0.1f : 0.0f);
  foreign.model.set_activation(draw.Coin() ? ModelConfig::GELU : ModelConfig::SILU);
  return foreign;
}

ForeignModel Llama(Draw& draw) {
  ForeignModel foreign = DecoderOf(draw, ModelConfig::LLAMA);
  ModelConfig& model = foreign.model;
  if (model.heads() > 1) model.set_kv_heads(draw.Of({1, model.heads() / 2, model.heads()}));
  model.set_head_dim(draw.Of({2, 4, 10}));
  model.set_rope_theta(draw.Coin() ? 5e5f : 1e4f);
  const int32_t kind = draw.Of({0, 1, 2});  // Llama or Mistral, Qwen2, Qwen3
  model.set_qk_norm(kind == 2);
  model.set_qkv_bias(kind == 1 || draw.Coin());
  model.set_attention_output_bias(kind != 1 && model.qkv_bias());
  model.set_mlp_bias(kind == 0 && draw.Coin());
  if (draw.Of({0, 0, 1}) == 1) {
    if (kind == 0) model.clear_qkv_bias();
    if (kind == 0) model.clear_attention_output_bias();
    if (kind == 0) model.set_mlp_bias(false);
    model.set_sliding_window(3);
    if (kind != 0 && model.layers() > 1) model.set_first_window_layer(draw.Of({0, 1}));
  }
  const auto scaling = static_cast<RopeScaling::Kind>(draw.Of({0, 0, 1, 2, 3}));
  if (scaling != RopeScaling::KIND_UNSET) {
    model.mutable_rope_scaling()->set_kind(scaling);
    model.mutable_rope_scaling()->set_factor(draw.Coin() ? 8 : 1.7f);
    if (scaling != RopeScaling::LINEAR) model.mutable_rope_scaling()->set_original_length(4);
  }
  return foreign;
}

ForeignModel Bert(Draw& draw) {
  ForeignModel foreign = DecoderOf(draw, ModelConfig::BERT);
  ModelConfig& model = foreign.model;
  model.set_sequence_length(16);
  const int32_t kind = draw.Of({0, 1, 2, 3});
  foreign.task = std::vector<std::string>{"MASKED_TOKEN", "TEXT_CLASSES", "TOKEN_CLASSES",
                                          "TEXT_VALUE"}[static_cast<size_t>(kind)];
  if (kind == 1 || kind == 2) {
    model.set_classes(3);
    foreign.class_names = {"a", "b", "c"};
  }
  if (kind != 0) model.set_tied(true);
  return foreign;
}

ForeignModel T5(Draw& draw) {
  ForeignModel foreign = DecoderOf(draw, ModelConfig::T5);
  foreign.task = "SPAN_CORRUPTION";
  foreign.model.set_vocabulary(draw.Of({120, 131}));
  foreign.model.set_sequence_length(40);
  foreign.model.set_decoder_layers(draw.Of({1, 3}));
  foreign.model.set_head_dim(draw.Of({2, 5}));
  foreign.model.set_gated(draw.Coin());
  foreign.model.set_activation(draw.Coin() ? ModelConfig::RELU : ModelConfig::GELU_TANH);
  return foreign;
}

ForeignModel Vit(Draw& draw) {
  ForeignModel foreign = {.task = "IMAGE_CLASSES"};
  ModelConfig& model = foreign.model;
  model.set_family(ModelConfig::VIT);
  model.set_layers(draw.Of({1, 3}));
  model.set_heads(2);
  model.set_hidden(draw.Of({4, 12}));
  model.set_feed_forward(draw.Of({3, 24}));
  model.set_image_size(12);
  model.set_patch_size(draw.Of({3, 4}));
  model.set_channels(draw.Of({1, 3}));
  model.set_classes(4);
  model.set_qkv_bias(draw.Coin());
  return foreign;
}

// A checkpoint of random bits: NaNs, subnormals and all, its rows cut over the ranks.
std::string WriteRandom(const ForeignModel& foreign, const std::string& run, int ranks, uint64_t seed) {
  std::filesystem::remove_all(run);
  const ParameterTable table = DeclareModel(foreign.model);
  RunRanksAsThreads(ranks, [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    const std::unique_ptr<Group> all = world.NewGroupOfAll(*device);
    Draw draw(seed * 100 + static_cast<uint64_t>(world.rank()));
    std::vector<uint32_t> bits;
    CheckpointContent content;
    content.model = ModelText(foreign.model);
    content.owner = "test";
    content.parts = static_cast<int>(table.all().size());
    content.part = [&](int i) -> std::vector<ShardedTensor> {
      const Parameter& parameter = table.all()[static_cast<size_t>(i)];
      Box box = {.offset = parameter.shape, .extent = parameter.shape};
      for (int dim = 0; dim < box.offset.rank(); ++dim) box.offset[dim] = 0;
      const int64_t rows = parameter.shape[0], first = rows * world.rank() / ranks,
                    end = rows * (world.rank() + 1) / ranks;
      box.offset[0] = first;
      box.extent[0] = end - first;
      bits.resize(static_cast<size_t>(box.extent.elements()));
      for (uint32_t& one : bits) one = draw.Bits();
      return {{parameter.name, DType::kFloat32, parameter.shape, box, reinterpret_cast<std::byte*>(bits.data())}};
    };
    const absl::Status status = WriteCheckpoint(FileSystem::Posix(), *all, run + "/checkpoints", content);
    ASSERT_TRUE(status.ok()) << status;
  });
  return CheckpointPath(run + "/checkpoints", 0);
}

TEST(RoundTripTest, OutAndInAgainIsTheSameToTheBit) {
  struct Ranks {
    int writing, out, in;
  };
  const Ranks layouts[] = {{1, 1, 1}, {2, 1, 3}, {3, 2, 1}, {4, 4, 2}};
  ForeignModel (*const families[])(Draw&) = {Gpt2, Llama, Bert, T5, Vit};
  // Saves flush, which takes its time on a disk.
  const std::string folder = absl::StrCat("/dev/shm/trefoil_round_trip_", getpid());
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Draw draw(seed);
    ForeignModel foreign = families[seed % std::size(families)](draw);
    FillModel(&foreign);
    SCOPED_TRACE(absl::StrCat("seed ", seed, ": ", foreign.model.ShortDebugString()));
    const Ranks& ranks = layouts[seed / std::size(families) % std::size(layouts)];
    const std::string checkpoint = WriteRandom(foreign, folder + "/run", ranks.writing, seed);
    Export({checkpoint, foreign, {}}, folder + "/out", ranks.out,
           {.dtype = "F32", .shard_bytes = draw.Of({1, 5000, 1 << 30})});
    const ImportedRun back = Import(folder + "/out", folder + "/back", ranks.in);
    ASSERT_EQ(back.foreign.model.ShortDebugString(), foreign.model.ShortDebugString());
    ASSERT_EQ(back.foreign.class_names, foreign.class_names);
    ASSERT_EQ(back.foreign.task, foreign.task);
    ASSERT_EQ(TensorsOf(back.checkpoint), TensorsOf(checkpoint));
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace trefoil
