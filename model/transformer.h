// One pipeline stage of a model: its chunks of modules (model/module.h). Implements what the pipeline drives.
//
//   Transformer stage(config, store, context, {.stage = 1, .virtual_stages = virtual_stages}, module_added);
//   stage.Begin(micro_batches, upload);               // of one step
//   RunSchedule(actions, stage, pipeline_group);
//   stage.Losses();                                   // where a module makes losses
//
// Threads: the rank's main thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "model/model.h"
#include "model/module.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/stage.h"

namespace trefoil {

struct StagePlace {
  int stage = 0;
  VirtualStages virtual_stages = {};
};

class Transformer : public Stage {
 public:
  // `module_added(module)` is called when a micro-batch has added to the module's weight gradients, in order of the
  // schedule; may be empty. The store and what the context refers to outlive the stage.
  Transformer(const ModelConfig& config, const ParameterStore& store, const Context& context, const StagePlace& place,
              std::function<void(int module)> module_added);

  // The same of a list of modules that another than the config's family makes.
  Transformer(const std::vector<ModuleSpec>& modules, const ParameterStore& store, const Context& context,
              const StagePlace& place, std::function<void(int module)> module_added);

  // The modules that a stage holds, over all its chunks.
  static std::vector<int> Modules(const ModelConfig& config, const StagePlace& place);

  // Starts a step (or an evaluation) of so many micro-batches; forgets the losses of the one before. Each is made when the
  // schedule comes to it, and given up with its last backward (forward, where it is not of training).
  void Begin(int micro_batches, std::function<MicroBatch(int number)> make);
  void Begin(std::vector<MicroBatch> micro_batches);
  // Per micro-batch, the loss of this name that a module of this stage has made (model/module.h); undefined where none
  // has.
  std::vector<Tensor> Losses(const std::string& name = kTokenLoss) const;

  // The modules whose weights a list of actions uses, one after the other (parallel/weight_gathers.h).
  std::vector<int> ModulesUsed(const std::vector<Action>& actions) const;

  // To use a model that is trained; of stages of one chunk, on batches not of training. Nothing is kept for a backward.
  //   Tensors x = stage.Run(batch, {}, 0, head);            // modules by their numbers in the model
  //   Tensor logits = stage.Output(batch, x.front());
  //
  // The stage's modules are [first_module(), end_module()).
  int first_module() const { return OnlyChunk().front().number; }
  int end_module() const { return OnlyChunk().back().number + 1; }
  // What the first of them takes, without values.
  Tensors NewInput(const MicroBatch& batch) const;
  // What modules [begin, end), all of this stage, make of what comes before them.
  Tensors Run(const MicroBatch& batch, Tensors x, int begin, int end);
  // What the head, which this stage has, says of what comes before it, float32: of tokens the logits of any rows x [rows,
  // C], [rows, V/t]; of classes and values [M, K] (model/layers/sample_head.h).
  Tensor Output(const MicroBatch& batch, const Tensor& x);

  Tensors NewInput(int chunk) override;
  Tensors NewOutputGradient(int chunk) override;
  Tensors Forward(int micro_batch, int chunk, const Tensors& input, bool divided) override;
  Tensors Backward(int micro_batch, int chunk, const Tensors& d_output) override;
  Tensors BackwardInput(int micro_batch, int chunk, const Tensors& d_output) override;
  void BackwardWeight(int micro_batch, int chunk) override;

 private:
  struct Part {
    int number;
    std::unique_ptr<Module> module;
  };
  using Shapes = std::function<std::vector<Shape>(const Context&, const MicroBatch&)>;
  struct Chunk {
    std::vector<Part> parts;
    Shapes input, output;  // of what comes in, and of what goes out to the virtual stage behind it
  };
  Tensors New(const Shapes& shapes, const MicroBatch& batch) const;
  Tensors New(const Shapes& shapes);
  const std::vector<Part>& OnlyChunk() const;
  const MicroBatch& Batch(int micro_batch);
  // One more of its chunks has done all that the batch is needed for.
  void DoneWith(int micro_batch);
  using Saved = std::vector<std::unique_ptr<Module::Saved>>;  // by part of the chunk
  // Weight gradients of a module that wait for their BackwardWeight.
  struct Queued {
    int module;
    WeightGradients weights;
  };
  // queued: null if weight gradients do not wait.
  Tensors Backward(int micro_batch, int chunk, const Tensors& d_output, std::vector<Queued>* queued);
  void AddedTo(int module);
  // It, or a module before it, has something to train.
  bool IsTrained(const Part& part) const { return part.number >= context_.first_trained_module; }

  const ParameterStore& store_;
  const Context context_;
  const std::function<void(int module)> module_added_;
  std::vector<Chunk> chunks_;

  std::function<MicroBatch(int)> make_;
  struct Running {
    std::optional<MicroBatch> batch = {};
    int chunks_done = 0;
  };
  std::vector<Running> micro_batches_;
  std::optional<MicroBatch> shape_;  // of them all, without tensors
  std::map<std::pair<int, int>, Saved> saved_;  // by micro-batch, chunk
  std::map<std::pair<int, int>, std::vector<Queued>> weight_gradients_;
  std::vector<std::vector<Loss>> losses_;  // by micro-batch
};

}  // namespace trefoil
