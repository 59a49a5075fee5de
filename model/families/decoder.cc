// The modules of a decoder: embedding, blocks, head. GPT and Llama, whose recipes differ.
#include <absl/strings/str_cat.h>

#include <memory>

#include "model/block.h"
#include "model/layers/embedding.h"
#include "model/layers/head.h"
#include "model/module.h"

namespace trefoil {

std::vector<ModuleSpec> ModulesOf(const ModelConfig& config) {
  const auto shared = std::make_shared<const ModelConfig>(config);  // by all functions below
  const int head = config.layers() + 1;
  std::vector<ModuleSpec> modules;
  modules.push_back({.name = "embedding",
                     .kind = "embedding",
                     .reads_inputs = true,
                     .declare = [=](ParameterTable* table) { TokenEmbedding::Declare(*shared, 0, head, table); },
                     .build = [=](const ParameterStore& store) -> std::unique_ptr<Module> {
                       return std::make_unique<TokenEmbedding>(store, *shared, 0);
                     },
                     // Looked up, not multiplied.
                     .flops_per_token = [](int64_t) { return 0.0; }});
  for (int layer = 0; layer < config.layers(); ++layer) {
    const int number = layer + 1;
    modules.push_back({.name = absl::StrCat("layer ", layer),
                       .kind = "block",
                       .block = true,
                       .declare = [=](ParameterTable* table) { Block::Declare(*shared, layer, number, table); },
                       .build = [=](const ParameterStore& store) -> std::unique_ptr<Module> {
                         return std::make_unique<Block>(store, *shared, layer, number);
                       },
                       .flops_per_token = [=](int64_t length) { return Block::FlopsPerToken(*shared, length); }});
  }
  modules.push_back({.name = "head",
                     .kind = "head",
                     .reads_targets = true,
                     .makes_losses = true,
                     .declare = [=](ParameterTable* table) { Head::Declare(*shared, head, table); },
                     .build = [=](const ParameterStore& store) -> std::unique_ptr<Module> {
                       return std::make_unique<Head>(store, *shared, head);
                     },
                     .flops_per_token = [=](int64_t) { return Head::FlopsPerToken(*shared); }});
  return modules;
}

}  // namespace trefoil
