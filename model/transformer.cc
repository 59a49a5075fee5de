#include "model/transformer.h"

namespace trefoil {
namespace {

std::vector<int> ChunkHomes(const ModelConfig& config, const StagePlace& place, int chunk) {
  const int virtual_stage = place.virtual_stages.Of(place.stage, chunk);
  return HomesOfVirtualStages(config, place.virtual_stages)[static_cast<size_t>(virtual_stage)];
}

}  // namespace

std::vector<int> Transformer::Homes(const ModelConfig& config, const StagePlace& place) {
  std::vector<int> homes;
  for (int chunk = 0; chunk < place.virtual_stages.chunks(); ++chunk) {
    for (int home : ChunkHomes(config, place, chunk)) homes.push_back(home);
  }
  return homes;
}

Transformer::Transformer(const ModelConfig& config, const ParameterStore& store, const Context& context,
                         const StagePlace& place, std::function<void(int home)> home_added)
    : config_(config), context_(context), home_added_(std::move(home_added)) {
  for (int c = 0; c < place.virtual_stages.chunks(); ++c) {
    Chunk chunk;
    for (int home : ChunkHomes(config, place, c)) {
      if (home == 0) {
        chunk.embedding = std::make_unique<TokenEmbedding>(store, config);
      } else if (home == config.layers() + 1) {
        chunk.head = std::make_unique<Head>(store, config);
      } else {
        chunk.blocks.push_back(std::make_unique<Block>(store, config, home - 1));
        chunk.block_homes.push_back(home);
      }
    }
    chunks_.push_back(std::move(chunk));
  }
}

void Transformer::Begin(std::vector<MicroBatch> micro_batches) {
  CHECK(saved_.empty() && weight_gradients_.empty()) << "the step before has backwards missing";
  micro_batches_ = std::move(micro_batches);
  losses_.assign(micro_batches_.size(), Tensor());
}

Tensor Transformer::NewActivation() {
  return context_.New({context_.LocalRows(micro_batches_.front().rows()), config_.hidden()});
}

Tensor Transformer::Forward(int micro_batch, int chunk_index, const Tensor& input) {
  const Chunk& chunk = chunks_[static_cast<size_t>(chunk_index)];
  const MicroBatch& batch = micro_batches_[static_cast<size_t>(micro_batch)];
  Saved saved;
  Tensor x = chunk.embedding != nullptr ? chunk.embedding->Forward(context_, batch) : input;
  if (chunk.embedding != nullptr) context_.Inspect(Pass::kForward, 0, "embedding", "", x);
  for (const auto& block : chunk.blocks) x = block->Forward(context_, batch, x, &saved.blocks.emplace_back());
  if (chunk.head != nullptr) {
    chunk.head->Forward(context_, batch, x, &saved.head);
    losses_[static_cast<size_t>(micro_batch)] = saved.head.loss;
    x = Tensor();
  }
  if (batch.training) saved_[{micro_batch, chunk_index}] = std::move(saved);
  return x;
}

Tensor Transformer::Backward(int micro_batch, int chunk, const Tensor& d_output) {
  WeightGradients at_once(/*at_once=*/true);
  return Backward(micro_batch, chunk, d_output, at_once);
}

Tensor Transformer::BackwardInput(int micro_batch, int chunk, const Tensor& d_output) {
  const auto [queued, is_new] = weight_gradients_.try_emplace({micro_batch, chunk}, /*at_once=*/false);
  CHECK(is_new);
  return Backward(micro_batch, chunk, d_output, queued->second);
}

Tensor Transformer::Backward(int micro_batch, int chunk_index, const Tensor& d_output, WeightGradients& weights) {
  const Chunk& chunk = chunks_[static_cast<size_t>(chunk_index)];
  const MicroBatch& batch = micro_batches_[static_cast<size_t>(micro_batch)];
  auto node = saved_.extract({micro_batch, chunk_index});
  CHECK(!node.empty()) << "backward of micro-batch " << micro_batch << " before its forward";
  Saved& saved = node.mapped();
  Tensor dx = d_output;
  if (chunk.head != nullptr) {
    dx = chunk.head->Backward(context_, saved.head);
    saved.head = {};
    weights.Add([this] { AddedTo(config_.layers() + 1); });
  }
  for (size_t i = chunk.blocks.size(); i-- > 0;) {
    dx = chunk.blocks[i]->Backward(context_, batch, dx, std::move(saved.blocks[i]), weights);
    weights.Add([this, home = chunk.block_homes[i]] { AddedTo(home); });
  }
  if (chunk.embedding != nullptr) {
    chunk.embedding->Backward(context_, batch, dx, weights);
    weights.Add([this] { AddedTo(0); });
    dx = Tensor();
  }
  return dx;
}

void Transformer::BackwardWeight(int micro_batch, int chunk) {
  auto node = weight_gradients_.extract({micro_batch, chunk});
  CHECK(!node.empty()) << "weight gradients of micro-batch " << micro_batch << " before its backward";
  node.mapped().Run();
}

void Transformer::AddedTo(int home) {
  if (home_added_) home_added_(home);
}

Tensor Transformer::NextTokenLogits(const MicroBatch& batch) {
  CHECK_EQ(chunks_.size(), 1u);
  const Chunk& chunk = chunks_.front();
  CHECK(chunk.embedding != nullptr && chunk.head != nullptr && !batch.training);
  Tensor x = chunk.embedding->Forward(context_, batch);
  Block::Saved unused;
  for (const auto& block : chunk.blocks) x = block->Forward(context_, batch, x, &unused);
  const Tensor logits = chunk.head->Logits(context_, x.Rows(batch.rows() - 1, batch.rows()));
  return logits.View({logits.dim(1)});
}

}  // namespace trefoil
