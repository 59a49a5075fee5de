#include "model/model.h"

#include <glog/logging.h>

#include <algorithm>

#include "model/block.h"
#include "model/layers/embedding.h"
#include "model/layers/head.h"

namespace trefoil {

ParameterTable DeclareModel(const ModelConfig& config) {
  ParameterTable table;
  const int head = config.layers() + 1;
  TokenEmbedding::Declare(config, 0, head, &table);
  for (int layer = 0; layer < config.layers(); ++layer) Block::Declare(config, layer, &table);
  Head::Declare(config, head, &table);
  return table;
}

namespace {

// FLOPs of training on one token in each block, and in the head.
struct HomeFlops {
  double block = 0, head = 0;
};

HomeFlops FlopsOfHomes(const ModelConfig& config, int64_t sequence_length) {
  ModelConfig one_block = config;
  one_block.set_layers(1);
  const ParameterTable table = DeclareModel(one_block);
  HomeFlops flops;
  for (const Parameter& p : table.all()) {
    const int home = p.tied_home >= 0 ? p.tied_home : p.home;
    const double of_matrix = 6 * static_cast<double>(p.shape.elements());
    if (home == 1) flops.block += of_matrix;
    if (home == 2) flops.head += of_matrix;
  }
  const double width = static_cast<double>(config.heads()) * config.head_dim();
  flops.block += 6 * width * static_cast<double>(sequence_length);
  return flops;
}

// How many of `blocks` each of several parts takes so that the most loaded has the least: at_least each, then one at a time
// to the least loaded. Of equals the last: the first stages of a pipeline hold more activations. head_part: the one that
// has the head; -1: none.
std::vector<int> Spread(int blocks, int parts, int at_least, const HomeFlops& flops, int head_part) {
  std::vector<int> taken(static_cast<size_t>(parts), at_least);
  std::vector<double> load(taken.size(), at_least * flops.block);
  if (head_part >= 0) load[static_cast<size_t>(head_part)] += flops.head;
  for (int left = blocks - parts * at_least; left > 0; --left) {
    const auto least = std::min_element(load.rbegin(), load.rend());
    *least += flops.block;
    ++taken[static_cast<size_t>(load.rend() - least) - 1];
  }
  return taken;
}

}  // namespace

std::vector<std::vector<int>> HomesOfVirtualStages(const ModelConfig& config, const VirtualStages& virtual_stages) {
  CHECK_GE(config.layers(), virtual_stages.size());
  const int stages = virtual_stages.stages(), chunks = virtual_stages.chunks();
  const int head_stage = virtual_stages.StageOf(virtual_stages.last());
  const HomeFlops flops = FlopsOfHomes(config, config.sequence_length());
  std::vector<int> blocks(static_cast<size_t>(virtual_stages.size()));
  const std::vector<int> blocks_of_stage = Spread(config.layers(), stages, chunks, flops, head_stage);
  for (int stage = 0; stage < stages; ++stage) {
    const std::vector<int> of_chunk =
        Spread(blocks_of_stage[static_cast<size_t>(stage)], chunks, 1, flops,
               stage == head_stage ? virtual_stages.ChunkOf(virtual_stages.last()) : -1);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      blocks[static_cast<size_t>(virtual_stages.Of(stage, chunk))] = of_chunk[static_cast<size_t>(chunk)];
    }
  }
  std::vector<std::vector<int>> homes(blocks.size());
  int home = 0;
  homes.front().push_back(home++);
  for (size_t v = 0; v < homes.size(); ++v) {
    for (int block = 0; block < blocks[v]; ++block) homes[v].push_back(home++);
  }
  homes.back().push_back(home);
  return homes;
}

double ModelFlopsPerToken(const ModelConfig& config, int64_t sequence_length) {
  const HomeFlops flops = FlopsOfHomes(config, sequence_length);
  return config.layers() * flops.block + flops.head;
}

}  // namespace trefoil
