#include "model/transformer.h"

#include "model/layers/head.h"

namespace trefoil {
namespace {

// Of a stage's chunks.
std::vector<std::vector<int>> HomesOfChunks(const std::vector<ModuleSpec>& modules, const ModelConfig& config,
                                            const StagePlace& place) {
  const auto homes = HomesOfVirtualStages(modules, config.sequence_length(), place.virtual_stages);
  std::vector<std::vector<int>> of_chunks;
  for (int chunk = 0; chunk < place.virtual_stages.chunks(); ++chunk) {
    of_chunks.push_back(homes[static_cast<size_t>(place.virtual_stages.Of(place.stage, chunk))]);
  }
  return of_chunks;
}

}  // namespace

std::vector<int> Transformer::Homes(const ModelConfig& config, const StagePlace& place) {
  std::vector<int> homes;
  for (const std::vector<int>& of_chunk : HomesOfChunks(ModulesOf(config), config, place)) {
    homes.insert(homes.end(), of_chunk.begin(), of_chunk.end());
  }
  return homes;
}

Transformer::Transformer(const ModelConfig& config, const ParameterStore& store, const Context& context,
                         const StagePlace& place, std::function<void(int home)> home_added)
    : Transformer(ModulesOf(config), config, store, context, place, std::move(home_added)) {}

Transformer::Transformer(const std::vector<ModuleSpec>& modules, const ModelConfig& config, const ParameterStore& store,
                         const Context& context, const StagePlace& place, std::function<void(int home)> home_added)
    : config_(config), store_(store), context_(context), home_added_(std::move(home_added)) {
  for (const std::vector<int>& homes : HomesOfChunks(modules, config, place)) {
    Chunk& chunk = chunks_.emplace_back();
    for (const int home : homes) {
      chunk.push_back({.home = home, .module = modules[static_cast<size_t>(home)].build(store)});
    }
  }
}

void Transformer::Begin(std::vector<MicroBatch> micro_batches) {
  CHECK(saved_.empty() && weight_gradients_.empty()) << "the step before has backwards missing";
  micro_batches_ = std::move(micro_batches);
  losses_.assign(micro_batches_.size(), {});
}

std::vector<Tensor> Transformer::Losses(const std::string& name) const {
  std::vector<Tensor> named;
  for (const std::vector<Loss>& losses : losses_) {
    Tensor& found = named.emplace_back();
    for (const Loss& loss : losses) {
      if (loss.name != name) continue;
      CHECK(!found.defined()) << "two losses of a micro-batch are named " << name;
      found = loss.values;
    }
  }
  return named;
}

// Blocks pass on one tensor, of one shape throughout.
Tensors Transformer::NewInput(int) {
  return {context_.New({context_.LocalRows(micro_batches_.front().rows()), config_.hidden()})};
}

Tensors Transformer::NewOutputGradient(int chunk) { return NewInput(chunk); }

Tensors Transformer::Forward(int micro_batch, int chunk_index, const Tensors& input, bool divided) {
  const MicroBatch& batch = micro_batches_[static_cast<size_t>(micro_batch)];
  Saved saved;
  Tensors x = input;
  for (const Part& part : chunks_[static_cast<size_t>(chunk_index)]) {
    const ParameterStore::Use use = store_.UseHome(part.home);
    ForwardPass pass = {.divided = divided};
    x = part.module->Forward(context_, batch, x, &pass);
    saved.push_back(std::move(pass.saved));
    for (Loss& loss : pass.losses) losses_[static_cast<size_t>(micro_batch)].push_back(std::move(loss));
  }
  if (batch.training) saved_[{micro_batch, chunk_index}] = std::move(saved);
  return x;
}

Tensors Transformer::Backward(int micro_batch, int chunk, const Tensors& d_output) {
  WeightGradients at_once(/*at_once=*/true);
  return Backward(micro_batch, chunk, d_output, at_once);
}

Tensors Transformer::BackwardInput(int micro_batch, int chunk, const Tensors& d_output) {
  const auto [queued, is_new] = weight_gradients_.try_emplace({micro_batch, chunk}, /*at_once=*/false);
  CHECK(is_new);
  return Backward(micro_batch, chunk, d_output, queued->second);
}

Tensors Transformer::Backward(int micro_batch, int chunk_index, const Tensors& d_output, WeightGradients& weights) {
  const Chunk& chunk = chunks_[static_cast<size_t>(chunk_index)];
  const MicroBatch& batch = micro_batches_[static_cast<size_t>(micro_batch)];
  auto node = saved_.extract({micro_batch, chunk_index});
  CHECK(!node.empty()) << "backward of micro-batch " << micro_batch << " before its forward";
  Saved& saved = node.mapped();
  Tensors dx = d_output;
  for (size_t i = chunk.size(); i-- > 0;) {
    const ParameterStore::Use use = store_.UseHome(chunk[i].home);
    dx = chunk[i].module->Backward(context_, batch, dx, std::move(saved[i]), weights);
    weights.Add([this, home = chunk[i].home] { AddedTo(home); });
  }
  return dx;
}

void Transformer::BackwardWeight(int micro_batch, int chunk) {
  auto node = weight_gradients_.extract({micro_batch, chunk});
  CHECK(!node.empty()) << "weight gradients of micro-batch " << micro_batch << " before its backward";
  std::vector<ParameterStore::Use> uses;
  for (const Part& part : chunks_[static_cast<size_t>(chunk)]) uses.push_back(store_.UseHome(part.home));
  node.mapped().Run();
}

void Transformer::AddedTo(int home) {
  if (home_added_) home_added_(home);
}

Tensor Transformer::NextTokenLogits(const MicroBatch& batch) {
  CHECK(chunks_.size() == 1u && !batch.training);
  const Chunk& chunk = chunks_.front();
  const auto* head = dynamic_cast<const Head*>(chunk.back().module.get());
  CHECK(head != nullptr) << "the model does not end with a head that chooses tokens";
  Tensors x;
  for (size_t i = 0; i + 1 < chunk.size(); ++i) {
    const ParameterStore::Use use = store_.UseHome(chunk[i].home);
    ForwardPass unused;
    x = chunk[i].module->Forward(context_, batch, x, &unused);
  }
  const ParameterStore::Use use = store_.UseHome(chunk.back().home);
  const Tensor logits = head->Logits(context_, x.front().Rows(batch.rows() - 1, batch.rows()));
  return logits.View({logits.dim(1)});
}

}  // namespace trefoil
