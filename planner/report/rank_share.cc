#include "planner/report/rank_share.h"

#include <algorithm>

#include "model/families/recipe.h"
#include "model/model.h"
#include "model/token_shares.h"
#include "parallel/mesh.h"
#include "parallel/placement.h"

namespace trefoil {
namespace {

Part PartOf(int parts, int index) {
  return {static_cast<double>(index) / parts, static_cast<double>(index + 1) / parts};
}

std::vector<Part> LayersOf(const RunConfig& config, int stage) {
  const VirtualStages virtual_stages(config.parallel());
  const std::vector<std::vector<int>> modules = ModulesOfVirtualStages(config.model(), virtual_stages);
  double all = 0;
  for (const std::vector<int>& of_stage : modules) all += static_cast<double>(of_stage.size());
  std::vector<Part> layers;
  for (int chunk = 0; chunk < virtual_stages.chunks(); ++chunk) {
    const std::vector<int>& held = modules[static_cast<size_t>(virtual_stages.Of(stage, chunk))];
    layers.push_back({held.front() / all, (held.back() + 1) / all});
  }
  return layers;
}

std::vector<Part> TokensOf(const RunConfig& config, const Mesh& mesh) {
  const int64_t length = config.model().sequence_length();
  if (mesh.size(Axis::kContext) == 1) return {Part()};
  const TokenRanges ranges = ShareOfTokens(length, mesh.size(Axis::kContext), mesh.index(Axis::kContext),
                                           RecipeOf(config.model()).structure == Recipe::Structure::kDecoder);
  std::vector<Part> tokens;
  for (int i = 0; i < TokenRanges::kMost; ++i) {
    if (ranges[i].tokens == 0) continue;
    const double all = static_cast<double>(length);
    tokens.push_back({static_cast<double>(ranges[i].first) / all,
                      static_cast<double>(ranges[i].first + ranges[i].tokens) / all});
  }
  return tokens;
}

}  // namespace

RankShare ShareOf(const RunConfig& config, int rank) {
  const ParallelConfig& parallel = config.parallel();
  const Mesh mesh(MeshSizes(parallel), rank);
  const AxisSet replicas = AxisSet::Of(AxisSplits::kSamples) | AxisSet::Of(AxisSplits::kTokens);
  const Sharing sharing = SharingOf(mesh, replicas, std::max(1, parallel.replicas()));
  const Part share = PartOf(sharing.shares, sharing.share);
  const auto split_from = [&](ParallelConfig::Zero stage) { return parallel.zero() >= stage ? share : Part(); };
  const Part of_tensor = PartOf(mesh.size(Axis::kTensor), mesh.index(Axis::kTensor));
  return {.layers = LayersOf(config, mesh.index(Axis::kPipeline)),
          .columns = of_tensor,
          .weights = split_from(ParallelConfig::WEIGHTS),
          .gradients = split_from(ParallelConfig::GRADIENTS),
          .optimizer = split_from(ParallelConfig::OPTIMIZER),
          .samples = PartOf(mesh.size(Axis::kData), mesh.index(Axis::kData)),
          .tokens = TokensOf(config, mesh),
          .rows = parallel.sequence_parallel() ? of_tensor : Part()};
}

}  // namespace trefoil
