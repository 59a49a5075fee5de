#include "model/model.h"

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

std::vector<int> HomesOfPiece(const ModelConfig& config, int piece, int pieces) {
  std::vector<int> homes;
  if (piece == 0) homes.push_back(0);
  const int64_t layers = config.layers();
  for (int64_t layer = layers * piece / pieces; layer < layers * (piece + 1) / pieces; ++layer) {
    homes.push_back(static_cast<int>(layer) + 1);
  }
  if (piece == pieces - 1) homes.push_back(config.layers() + 1);
  return homes;
}

double ModelFlopsPerToken(const ModelConfig& config, int64_t sequence_length) {
  const ParameterTable table = DeclareModel(config);
  int64_t multiplied = 0;
  for (const Parameter& p : table.all()) {
    const bool looked_up = p.home == 0 && p.tied_home < 0;
    if (!looked_up) multiplied += p.shape.elements();
  }
  const double width = static_cast<double>(config.heads()) * config.head_dim();
  return 6 * static_cast<double>(multiplied) + 6 * static_cast<double>(config.layers()) * width * static_cast<double>(sequence_length);
}

}  // namespace trefoil
