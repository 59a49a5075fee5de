// One pipeline stage of the transformer: its chunks of blocks, with the embedding on the first virtual stage and the head on
// the last. Implements what the pipeline drives.
//
//   Transformer stage(config, store, context, {.stage = 1, .virtual_stages = virtual_stages}, home_added);
//   stage.Begin(micro_batches);                       // of one step
//   RunSchedule(actions, stage, pipeline_group);
//   stage.Losses();                                   // on the last stage
//
// Threads: the rank's main thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "model/block.h"
#include "model/layers/embedding.h"
#include "model/layers/head.h"
#include "model/model.h"
#include "parallel/stage.h"

namespace trefoil {

struct StagePlace {
  int stage = 0;
  VirtualStages virtual_stages = {};
};

class Transformer : public Stage {
 public:
  // `home_added(home)` is called when a micro-batch has added to the home's weight gradients, in order of the schedule; may be
  // empty. The store and what the context refers to outlive the stage.
  Transformer(const ModelConfig& config, const ParameterStore& store, const Context& context, const StagePlace& place,
              std::function<void(int home)> home_added);

  // The homes that a stage holds, over all its chunks.
  static std::vector<int> Homes(const ModelConfig& config, const StagePlace& place);

  // Starts a step (or an evaluation) of these micro-batches; forgets the losses of the one before.
  void Begin(std::vector<MicroBatch> micro_batches);
  // Per micro-batch, the loss of each token [N] float32; undefined on stages without the head.
  const std::vector<Tensor>& Losses() const { return losses_; }
  // Logits of the last of the batch's tokens, float32 [V/t]; a model of one stage, on tokens that need not be padded.
  Tensor NextTokenLogits(const MicroBatch& batch);

  Tensor NewActivation() override;
  Tensor Forward(int micro_batch, int chunk, const Tensor& input) override;
  Tensor Backward(int micro_batch, int chunk, const Tensor& d_output) override;
  Tensor BackwardInput(int micro_batch, int chunk, const Tensor& d_output) override;
  void BackwardWeight(int micro_batch, int chunk) override;

 private:
  struct Chunk {
    std::unique_ptr<TokenEmbedding> embedding;  // on the first virtual stage
    std::vector<std::unique_ptr<Block>> blocks;
    std::vector<int> block_homes;
    std::unique_ptr<Head> head;  // on the last virtual stage
  };
  struct Saved {
    std::vector<Block::Saved> blocks;
    Head::Saved head;
  };
  Tensor Backward(int micro_batch, int chunk, const Tensor& d_output, WeightGradients& weights);
  void AddedTo(int home);

  const ModelConfig config_;
  const Context context_;
  const std::function<void(int home)> home_added_;
  std::vector<Chunk> chunks_;

  std::vector<MicroBatch> micro_batches_;
  std::map<std::pair<int, int>, Saved> saved_;  // by micro-batch, chunk
  std::map<std::pair<int, int>, WeightGradients> weight_gradients_;
  std::vector<Tensor> losses_;
};

}  // namespace trefoil
