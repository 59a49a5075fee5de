// Parameter counts against closed formulas, and the spreading of modules over pipeline stages.
#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <set>

#include "model/model.h"
#include "model/transformer.h"
#include "parallel/placement.h"
#include "tests/model/model_testing.h"

namespace trefoil {
namespace {

struct Size {
  const char* name;
  int64_t layers, hidden, heads, kv_heads, feed_forward, vocabulary, length;
  int64_t parameters;  // as published or computed by hand; 0: only the formula
};

ModelConfig ConfigOf(ModelConfig::Family family, const Size& size) {
  ModelConfig config;
  config.set_family(family);
  config.set_layers(static_cast<int32_t>(size.layers));
  config.set_hidden(static_cast<int32_t>(size.hidden));
  config.set_heads(static_cast<int32_t>(size.heads));
  config.set_kv_heads(static_cast<int32_t>(size.kv_heads));
  config.set_head_dim(static_cast<int32_t>(size.hidden / size.heads));
  config.set_feed_forward(static_cast<int32_t>(size.feed_forward));
  config.set_vocabulary(static_cast<int32_t>(size.vocabulary));
  config.set_sequence_length(static_cast<int32_t>(size.length));
  config.set_initial_deviation(0.02f);
  config.set_head(ModelConfig::TOKENS);
  config.set_targets(config.sequence_length());
  return config;
}

TEST(ParametersTest, GptSizes) {
  const Size sizes[] = {
      {"gpt2 124M", 12, 768, 12, 12, 3072, 50257, 1024, 124439808},
      {"gpt2 355M", 24, 1024, 16, 16, 4096, 50257, 1024, 354823168},
      {"gpt2 774M", 36, 1280, 20, 20, 5120, 50257, 1024, 774030080},
      {"gpt2 1558M", 48, 1600, 25, 25, 6400, 50257, 1024, 1557611200},
      {"gpt3 175B", 96, 12288, 96, 96, 49152, 50257, 2048, 174604259328},
      {"1T", 128, 25600, 160, 160, 102400, 51200, 2048, 1008038758400},
  };
  for (const Size& s : sizes) {
    // 12 L C^2 of matrices; biases 4C + 4C + C, norms 4C per block; the tables; the last norm.
    const int64_t c = s.hidden;
    const int64_t formula = s.layers * (12 * c * c + 13 * c) + (s.vocabulary + s.length) * c + 2 * c;
    EXPECT_EQ(DeclareModel(ConfigOf(ModelConfig::GPT, s)).elements(), formula) << s.name;
    EXPECT_EQ(formula, s.parameters) << s.name;
  }
}

TEST(ParametersTest, LlamaSizes) {
  const Size sizes[] = {
      {"llama 7B", 32, 4096, 32, 32, 11008, 32000, 2048, 6738415616},
      {"llama 3 8B", 32, 4096, 32, 8, 14336, 128256, 8192, 8030261248},
      {"llama 3 70B", 80, 8192, 64, 8, 28672, 128256, 8192, 70553706496},
      {"llama 3.1 405B", 126, 16384, 128, 8, 53248, 128256, 8192, 405853388800},
  };
  for (const Size& s : sizes) {
    const int64_t c = s.hidden, kv = c / s.heads * s.kv_heads;
    const int64_t formula =
        s.layers * (2 * c * c + 2 * c * kv + 3 * c * s.feed_forward + 2 * c) + 2 * s.vocabulary * c + c;
    EXPECT_EQ(DeclareModel(ConfigOf(ModelConfig::LLAMA, s)).elements(), formula) << s.name;
    EXPECT_EQ(formula, s.parameters) << s.name;
  }
}

// Tied embeddings and biases of queries, keys and values, as their owners publish them; the figures are the sums of
// their files' tensors.
TEST(ParametersTest, LlamaSizesWithTiedEmbeddingsAndQkvBiases) {
  const struct {
    Size size;
    bool tied, qkv_bias;
  } models[] = {
      {{"Llama 3.2 1B", 16, 2048, 32, 8, 8192, 128256, 8192, 1235814400}, true, false},
      {{"Qwen2.5 1.5B", 28, 1536, 12, 2, 8960, 151936, 1024, 1543714304}, true, true},
      {{"Qwen2.5 7B", 28, 3584, 28, 4, 18944, 152064, 1024, 7615616512}, false, true},
  };
  for (const auto& [s, tied, qkv_bias] : models) {
    ModelConfig config = ConfigOf(ModelConfig::LLAMA, s);
    config.set_tied(tied);
    config.set_qkv_bias(qkv_bias);
    const ParameterTable table = DeclareModel(config);
    EXPECT_EQ(table.elements(), s.parameters) << s.name;
    EXPECT_EQ(table.Find("embedding.token.weight").tied_modules,
              tied ? std::vector<int>{static_cast<int>(s.layers) + 1} : std::vector<int>()) << s.name;
    // A tied embedding multiplies in the head, another one is only looked up.
    const double multiplied = static_cast<double>(s.parameters - (tied ? 0 : s.vocabulary * s.hidden));
    const auto tokens = static_cast<double>(s.length);
    EXPECT_DOUBLE_EQ(ModelFlops(config),
                     (6 * multiplied + 6.0 * static_cast<double>(s.layers * s.hidden) * tokens) * tokens)
        << s.name;
  }
}

// What is left out is the family's own.
TEST(ParametersTest, TiedAndQkvBiasLeftOutAreTheFamilys) {
  for (const auto family : {ModelConfig::GPT, ModelConfig::LLAMA}) {
    const bool gpt = family == ModelConfig::GPT;
    const ModelConfig filled = TinyRun(family).model();
    EXPECT_EQ(filled.tied(), gpt);
    EXPECT_EQ(filled.qkv_bias(), gpt);
    ModelConfig left_out = filled;
    left_out.clear_tied();
    left_out.clear_qkv_bias();
    const auto names = [](const ModelConfig& config) {
      std::vector<std::string> all;
      const ParameterTable table = DeclareModel(config);
      for (const Parameter& p : table.all()) all.push_back(p.name + std::to_string(p.tied_modules.size()));
      return all;
    };
    EXPECT_EQ(names(left_out), names(filled));
    EXPECT_EQ(TinyRun(family, "model { tied: false }").model().tied(), false);
    EXPECT_EQ(TinyRun(family, "model { qkv_bias: true }").model().qkv_bias(), true);
  }
}

// By hand: 6 for every parameter that is multiplied, and 6 L C T for causal attention: half of q k^T and p v, two FLOPs per
// multiply-add, three passes.
TEST(ParametersTest, FlopsOfASample) {
  // GPT-2 small has 124439808 parameters, of which 1024 x 768 are positions. Its tied embedding multiplies in the head.
  const Size small = {"gpt2 124M", 12, 768, 12, 12, 3072, 50257, 1024, 0};
  const double multiplied = 124439808.0 - 1024 * 768;
  EXPECT_DOUBLE_EQ(ModelFlops(ConfigOf(ModelConfig::GPT, small)), 1024 * (6 * multiplied + 12 * 768 * 1024 * 6.0));
  // Of two layers and 5000 words, one of the two embeddings is only looked up.
  const Size llama = {"llama", 2, 128, 8, 4, 256, 5000, 64, 0};
  const double layer = 2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 256 + 2 * 128;
  EXPECT_DOUBLE_EQ(ModelFlops(ConfigOf(ModelConfig::LLAMA, llama)),
                   64 * (6 * (2 * layer + 128 + 5000 * 128) + 2 * 128 * 64 * 6.0));
  // A window of 16 of the 64 tokens in the second layer leaves out half of 48^2 pairs, of 12 C each.
  ModelConfig narrow = ConfigOf(ModelConfig::LLAMA, llama);
  narrow.set_sliding_window(16);
  narrow.set_first_window_layer(1);
  EXPECT_DOUBLE_EQ(ModelFlops(ConfigOf(ModelConfig::LLAMA, llama)) - ModelFlops(narrow), 12 * 128 * 48 * 48 / 2.0);
}

TEST(ParametersTest, DeclarationsAreConsistent) {
  for (const auto& [family, more, tied] :
       {std::tuple{ModelConfig::GPT, "", true}, std::tuple{ModelConfig::LLAMA, "", false},
        std::tuple{ModelConfig::LLAMA, "model { tied: true qkv_bias: true }", true},
        std::tuple{ModelConfig::LLAMA, "model { qk_norm: true attention_output_bias: true mlp_bias: true }", false},
        std::tuple{ModelConfig::GPT, "model { tied: false qkv_bias: false }", false}}) {
    const ParameterTable table = DeclareModel(TinyRun(family, more).model());
    for (const Parameter& p : table.all()) {
      const bool matrix = p.shape.rank() == 2;
      EXPECT_EQ(p.decay, matrix) << p.name << ": matrices and embeddings decay, norms and biases do not";
      EXPECT_EQ(p.initial == Initial::kNormal, matrix) << p.name;
      const bool norm = p.name.find("norm") != std::string::npos;
      EXPECT_EQ(p.initial == Initial::kOnes, norm && p.name.ends_with(".weight")) << p.name;
      EXPECT_EQ(!p.tied_modules.empty(), tied && p.name == "embedding.token.weight") << p.name;
      // What every tensor rank holds whole is used on this rank's tokens only.
      // What every tensor rank norms its heads with is used on those only.
      const bool of_heads = p.name.find("q_norm") != std::string::npos || p.name.find("k_norm") != std::string::npos;
      EXPECT_EQ(p.partial_over.contains(Axis::kTensor), p.splits.empty() && !of_heads) << p.name;
      EXPECT_EQ(p.summed_over.contains(Axis::kTensor), of_heads) << p.name;
    }
  }
}

// Of all ways to give each of `stages` a block or more, the least FLOPs of the most loaded stage.
double LeastMost(int blocks, int stages, double block, double head) {
  if (stages == 1) return blocks * block + head;
  double least = 1e300;
  for (int first = 1; first <= blocks - stages + 1; ++first) {
    least = std::min(least, std::max(first * block, LeastMost(blocks - first, stages - 1, block, head)));
  }
  return least;
}

// Of so many layers into virtual stages of one or more, round and round, and there and back.
std::vector<VirtualStages> WaysToCut(int layers) {
  std::vector<VirtualStages> ways;
  for (int stages = 1; stages <= 4; ++stages) {
    for (int chunks = 1; stages * chunks <= layers; ++chunks) {
      ways.emplace_back(VirtualStages::Order::kLoop, stages, chunks);
      ways.emplace_back(VirtualStages::Order::kFold, stages, chunks);
    }
  }
  return ways;
}

TEST(ParametersTest, EveryModuleIsOnOneStageAndStagesHaveEqualWork) {
  for (int layers = 1; layers <= 12; ++layers) {
    for (const int vocabulary : {8, 1000, 5000}) {  // the head weighs from nothing to many blocks
      ModelConfig config = TinyRun(ModelConfig::GPT).model();
      config.set_vocabulary(vocabulary);
      config.set_layers(layers + 1);
      const double one_more = ModelFlops(config);
      config.set_layers(layers);
      const double all = ModelFlops(config);
      const double block = one_more - all, head = all - layers * block;
      std::vector<int> every(static_cast<size_t>(layers + 2));
      std::iota(every.begin(), every.end(), 0);
      for (const VirtualStages& virtual_stages : WaysToCut(layers)) {
        const int stages = virtual_stages.stages(), chunks = virtual_stages.chunks();
        SCOPED_TRACE(testing::Message() << layers << " layers, vocabulary " << vocabulary << ", " << stages
                                        << " stages, " << chunks << " chunks, the head on stage "
                                        << virtual_stages.StageOf(virtual_stages.last()));
        const auto of_each = ModulesOfVirtualStages(config, virtual_stages);
        ASSERT_EQ(of_each.size(), static_cast<size_t>(stages * chunks));
        std::vector<int> modules;
        std::vector<double> load(static_cast<size_t>(stages));
        for (int v = 0; v < virtual_stages.size(); ++v) {
          const std::vector<int>& here = of_each[static_cast<size_t>(v)];
          modules.insert(modules.end(), here.begin(), here.end());
          const size_t ends = (v == 0 ? 1 : 0) + (v == virtual_stages.last() ? 1 : 0);
          EXPECT_GT(here.size(), ends) << "no block";
          load[static_cast<size_t>(virtual_stages.StageOf(v))] += static_cast<double>(here.size() - ends) * block;
        }
        load[static_cast<size_t>(virtual_stages.StageOf(virtual_stages.last()))] += head;
        EXPECT_EQ(modules, every);
        const double most = *std::max_element(load.begin(), load.end());
        if (chunks == 1) {
          EXPECT_NEAR(most, LeastMost(layers, stages, block, head), 1e-6 * all);
        }
        EXPECT_LE(most, std::max({all / stages + block, chunks * block + head}));

        std::multiset<int> of_stages;
        for (int stage = 0; stage < stages; ++stage) {
          for (int module : Transformer::Modules(config, {.stage = stage, .virtual_stages = virtual_stages})) {
            of_stages.insert(module);
          }
        }
        EXPECT_EQ(std::vector<int>(of_stages.begin(), of_stages.end()), every);
      }
    }
  }
}

// The slices of the ranks of a job cover every element of every parameter, and each is owned by one rank; a bucket has
// one layout on all tensor and data ranks, so that its parts can be added.
TEST(ParametersTest, SlicesCoverTheModelOnce) {
  for (const auto family : {ModelConfig::GPT, ModelConfig::LLAMA}) {
    const ModelConfig config = TinyRun(family, "model { kv_heads: 4 layers: 5 }").model();
    const ParameterTable table = DeclareModel(config);
    for (const auto& [tensor, data, stages] :
         {std::array{1, 1, 1}, {4, 1, 1}, {2, 3, 2}, {1, 5, 1}, {1, 1, 3}, {3, 2, 1}}) {
      const MeshSizes sizes = {{Axis::kTensor, tensor}, {Axis::kData, data}, {Axis::kPipeline, stages}};
      std::map<std::string, std::vector<int>> owners;
      for (const Parameter& p : table.all()) owners[p.name].resize(static_cast<size_t>(p.shape.elements()));
      std::map<std::pair<int, int>, std::pair<int64_t, std::vector<int64_t>>> layouts;  // by stage, bucket
      for (int rank = 0; rank < sizes.ranks(); ++rank) {
        const Mesh mesh(sizes, rank);
        const std::vector<int> modules =
            Transformer::Modules(config, {.stage = mesh.index(Axis::kPipeline),
                                        .virtual_stages = VirtualStages(VirtualStages::Order::kLoop, stages, 1)});
        int number = 0;
        for (const Bucket& bucket : PlaceParameters(table, mesh, modules, {}, true)) {
          EXPECT_EQ(bucket.elements % data, 0);
          std::vector<int64_t> begins;
          for (const BucketEntry& entry : bucket.entries) {
            begins.push_back(entry.begin);
            EXPECT_LE(entry.end(), bucket.elements);
          }
          const auto layout =
              layouts.insert({{mesh.index(Axis::kPipeline), number++}, std::pair(bucket.elements, begins)}).first;
          EXPECT_EQ(layout->second, std::pair(bucket.elements, begins)) << "rank " << rank;
          if (mesh.index(Axis::kData) != 0) continue;
          for (const BucketEntry& entry : bucket.entries) {
            const Parameter& p = *entry.parameter;
            const bool module_here = std::count(modules.begin(), modules.end(), p.module) > 0;
            if (!module_here || (p.splits.empty() && mesh.index(Axis::kTensor) != 0)) continue;
            const Box& box = entry.box;
            const int64_t columns = p.shape.rank() == 2 ? p.shape[1] : 1;
            const int64_t width = p.shape.rank() == 2 ? box.extent[1] : 1;
            const int64_t left = p.shape.rank() == 2 ? box.offset[1] : 0;
            for (int64_t i = 0; i < box.extent.elements(); ++i) {
              ++owners[p.name][static_cast<size_t>((box.offset[0] + i / width) * columns + left + i % width)];
            }
          }
        }
      }
      for (const auto& [name, counts] : owners) {
        EXPECT_EQ(std::count(counts.begin(), counts.end(), 1), static_cast<int64_t>(counts.size())) << name;
      }
    }
  }
}

// A fused matrix is its parts on top of each other.
TEST(ParametersTest, FusedPartsLieInOrder) {
  WithWorkers(TinyRun(ModelConfig::LLAMA, "parallel { tensor: 2 }"), [](Worker& worker) {
    const std::string prefix = "blocks.1.attention.";
    const std::vector<std::string> names = {prefix + "q.weight", prefix + "k.weight", prefix + "v.weight"};
    Values parts;
    for (const std::string& name : names) {
      const Values part = Get(worker.device, worker.store.Weight({name}));
      parts.insert(parts.end(), part.begin(), part.end());
    }
    EXPECT_EQ(Get(worker.device, worker.store.Weight(names)), parts);
    EXPECT_EQ(worker.store.Weight(names).dim(0), (4 + 2 + 2) * 8 / 2);
  });
}

}  // namespace
}  // namespace trefoil
