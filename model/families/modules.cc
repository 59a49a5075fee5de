// The modules of each structure, in order. The recipe and the config say what is in them.
#include <absl/strings/str_cat.h>

#include <memory>
#include <utility>

#include "model/block.h"
#include "model/layers/decoder_embedding.h"
#include "model/layers/embedding.h"
#include "model/layers/head.h"
#include "model/layers/patch_decoder.h"
#include "model/layers/patch_embedding.h"
#include "model/layers/recurrent.h"
#include "model/layers/sample_head.h"
#include "model/layers/token_transform.h"
#include "model/module.h"

namespace trefoil {
namespace {

using Shared = std::shared_ptr<const ModelConfig>;  // by all functions of the modules
using Structure = Recipe::Structure;

// A module's functions from its class, which takes `arguments` behind the config.
template <typename M, typename... Arguments>
void SetClass(const Shared& config, ModuleSpec* spec, Arguments... arguments) {
  spec->declare = [=](ParameterTable* table) { M::Declare(*config, arguments..., table); };
  spec->build = [=](const ParameterStore& store) -> std::unique_ptr<Module> {
    return std::make_unique<M>(store, *config, arguments...);
  };
}

// One tensor with a row for each of a side's tokens on this rank; decoder blocks take the memory as well.
auto Takes(Side side, int64_t columns, bool memory = false) {
  return [=](const Context& context, const MicroBatch& batch) {
    std::vector<Shape> shapes = {{context.LocalRows(batch.rows(side)), columns}};
    if (memory) shapes.push_back({context.LocalRows(batch.rows(Side::kInput)), columns});
    return shapes;
  };
}

class Builder {
 public:
  explicit Builder(const ModelConfig& config)
      : config_(std::make_shared<const ModelConfig>(config)), recipe_(RecipeOf(config)) {}

  std::vector<ModuleSpec> Build() {
    recipe_.structure == Structure::kVision ? AddPatchEmbedding() : AddTokenEmbedding();
    if (recipe_.structure == Structure::kRecurrent) {
      AddRecurrentLayers();
    } else {
      AddBlocks();
    }
    if (recipe_.structure == Structure::kEncoderDecoder) AddDecoder();
    const bool reconstructs = config_->head() == ModelConfig::PATCHES;
    if (reconstructs) AddPatchDecoder();
    const auto end = reconstructs ? std::make_shared<const ModelConfig>(PatchDecoderConfig(*config_)) : config_;
    config_->head() == ModelConfig::TOKENS ? AddTokenHead() : AddSampleHead(end);
    return std::move(modules_);
  }

 private:
  int next() const { return static_cast<int>(modules_.size()); }
  bool separate_memory() const { return recipe_.structure == Structure::kEncoderDecoder; }
  Side last_side() const {
    return separate_memory() || config_->head() == ModelConfig::PATCHES ? Side::kDecoder : Side::kInput;
  }

  void AddTokenEmbedding() {
    // The numbers of the modules that use the table as well: those behind the blocks.
    std::vector<int> tied;
    const int blocks_end = 1 + config_->layers();
    if (separate_memory()) tied.push_back(blocks_end);
    if (recipe_.tied && config_->head() == ModelConfig::TOKENS) {
      tied.push_back(separate_memory() ? blocks_end + 1 + config_->decoder_layers()
                                       : blocks_end + (recipe_.transform ? 1 : 0));
    }
    ModuleSpec spec = {.name = "embedding", .kind = "embedding", .role = {.reads_inputs = true}};
    spec.takes = [](const Context&, const MicroBatch&) { return std::vector<Shape>(); };
    spec.declare = [config = config_, tied](ParameterTable* table) {
      TokenEmbedding::Declare(*config, 0, tied, table);
    };
    spec.build = [config = config_](const ParameterStore& store) -> std::unique_ptr<Module> {
      return std::make_unique<TokenEmbedding>(store, *config, 0);
    };
    spec.flops = [] { return 0.0; };  // looked up, not multiplied
    modules_.push_back(std::move(spec));
  }

  void AddPatchEmbedding() {
    ModuleSpec spec = {.name = "embedding", .kind = "embedding", .role = {.reads_inputs = true}};
    spec.takes = [](const Context&, const MicroBatch&) { return std::vector<Shape>(); };
    SetClass<PatchEmbedding>(config_, &spec, 0);
    spec.flops = [config = config_] { return PatchEmbedding::Flops(*config); };
    modules_.push_back(std::move(spec));
  }

  void AddBlock(const std::string& name, const std::string& kind, const Shared& config, const BlockPlace& place,
                int64_t tokens, Role role) {
    ModuleSpec spec = {.name = name, .kind = kind, .block = true, .role = role};
    spec.takes = Takes(place.side, config->hidden(), place.cross);
    spec.declare = [=](ParameterTable* table) { Block::Declare(*config, place, table); };
    spec.build = [=](const ParameterStore& store) -> std::unique_ptr<Module> {
      return std::make_unique<Block>(store, *config, place);
    };
    spec.flops = [=] { return Block::Flops(*config, place, tokens, config->sequence_length()); };
    modules_.push_back(std::move(spec));
  }

  // The encoder's, or the only ones.
  void AddBlocks() {
    const bool causal = recipe_.structure == Structure::kDecoder;
    const bool relative = recipe_.positions == Recipe::Positions::kRelative;
    const int layers = config_->layers(), first = next();
    for (int layer = 0; layer < layers; ++layer) {
      BlockPlace place = {.prefix = absl::StrCat("blocks.", layer), .module = next(), .causal = causal};
      if (causal) place.window = WindowOf(*config_, layer);
      if (relative) place.relative = "encoder.relative.weight";
      if (layers > 1) place.around = config_->stochastic_depth() * static_cast<float>(layer) / static_cast<float>(layers - 1);
      AddBlock(absl::StrCat(separate_memory() ? "encoder layer " : "layer ", layer),
               separate_memory() ? "encoder block" : place.window > 0 ? "block with a window" : "block", config_, place, config_->sequence_length(),
               {.reads_lengths = !causal && recipe_.structure != Structure::kVision});
    }
    if (relative) AddRelative("encoder.relative.weight", first);
  }

  // Before what the first of the blocks from number `first` on declares.
  void AddRelative(const std::string& name, int first) {
    ModuleSpec& spec = modules_[static_cast<size_t>(first)];
    spec.declare = [config = config_, name, first, last = next() - 1, block = spec.declare](ParameterTable* table) {
      DeclareRelativePositions(*config, name, first, last, table);
      block(table);
    };
  }

  void AddDecoder() {
    ModuleSpec spec = {.name = "decoder embedding", .kind = "decoder embedding", .role = {.reads_decoder = true}};
    spec.takes = Takes(Side::kInput, config_->hidden());
    SetClass<DecoderEmbedding>(config_, &spec, next());
    spec.flops = [] { return 0.0; };
    modules_.push_back(std::move(spec));
    const bool relative = recipe_.positions == Recipe::Positions::kRelative;
    const int first = next();
    for (int layer = 0; layer < config_->decoder_layers(); ++layer) {
      BlockPlace place = {.prefix = absl::StrCat("decoder.blocks.", layer),
                          .module = next(),
                          .side = Side::kDecoder,
                          .cross = true,
                          .passes_memory = layer + 1 < config_->decoder_layers()};
      if (relative) place.relative = "decoder.relative.weight";
      // The last one differs in what it gives.
      AddBlock(absl::StrCat("decoder layer ", layer), place.passes_memory ? "decoder block" : "last decoder block",
               config_, place, config_->decoder_length(), {.reads_lengths = true});
    }
    if (relative) AddRelative("decoder.relative.weight", first);
  }

  void AddPatchDecoder() {
    ModuleSpec spec = {.name = "decoder embedding", .kind = "decoder embedding", .role = {.reads_decoder = true}};
    spec.takes = Takes(Side::kInput, config_->hidden());
    SetClass<PatchDecoder>(config_, &spec, next());
    spec.flops = [config = config_] { return PatchDecoder::Flops(*config); };
    modules_.push_back(std::move(spec));
    const auto decoder = std::make_shared<const ModelConfig>(PatchDecoderConfig(*config_));
    for (int layer = 0; layer < decoder->layers(); ++layer) {
      AddBlock(absl::StrCat("decoder layer ", layer), "decoder block", decoder,
               {.prefix = absl::StrCat("decoder.blocks.", layer),
                .module = next(),
                .side = Side::kDecoder,
                .causal = false},
               config_->decoder_length(), {});
    }
  }

  void AddRecurrentLayers() {
    for (int layer = 0; layer < config_->layers(); ++layer) {
      ModuleSpec spec = {.name = absl::StrCat("layer ", layer), .kind = "block", .block = true,
                         .role = {.reads_lengths = true}};
      spec.takes = Takes(Side::kInput, config_->hidden());
      SetClass<RecurrentLayer>(config_, &spec, layer, next());
      spec.flops = [config = config_] { return RecurrentLayer::Flops(*config); };
      modules_.push_back(std::move(spec));
    }
  }

  void AddTokenHead() {
    if (recipe_.transform) {
      ModuleSpec spec = {.name = "transform", .kind = "transform", .role = {.reads_targets = true}};
      spec.takes = Takes(Side::kInput, config_->hidden());
      SetClass<TokenTransform>(config_, &spec, next());
      spec.flops = [config = config_] { return TokenTransform::Flops(*config); };
      modules_.push_back(std::move(spec));
    }
    ModuleSpec spec = {.name = "head", .kind = "head", .role = {.reads_targets = true, .makes_losses = true}};
    spec.takes = recipe_.transform ? std::function<std::vector<Shape>(const Context&, const MicroBatch&)>(
                                         [columns = config_->hidden()](const Context&, const MicroBatch& batch) {
                                           return std::vector<Shape>{
                                               {batch.samples * batch.targets_of_sample, columns}};
                                         })
                                   : Takes(last_side(), config_->hidden());
    SetClass<Head>(config_, &spec, next());
    spec.flops = [config = config_] { return Head::Flops(*config); };
    modules_.push_back(std::move(spec));
  }

  void AddSampleHead(const Shared& config) {
    ModuleSpec spec = {.name = "head", .kind = "head",
                       .role = {.reads_lengths = true, .reads_targets = true, .makes_losses = true}};
    spec.takes = Takes(last_side(), config->hidden());
    SetClass<SampleHead>(config, &spec, next());
    spec.flops = [config] { return SampleHead::Flops(*config); };
    modules_.push_back(std::move(spec));
  }

  const Shared config_;
  const Recipe recipe_;
  std::vector<ModuleSpec> modules_;
};

}  // namespace

std::vector<ModuleSpec> ModulesOf(const ModelConfig& config) { return Builder(config).Build(); }

}  // namespace trefoil
