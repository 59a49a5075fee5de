// A module: one part of the network, such as the embedding, a block or the head. A model is a list of modules, which
// the family makes from the config alone (ModulesOf); their places in the list are their numbers, by which parameters
// say whose they are (parallel/parameter.h). What spreads a model over pipeline stages, counts its FLOPs, builds it,
// runs it and names it in reports goes by the list.
//
// Threads: the rank's main thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/context.h"
#include "model/model.pb.h"
#include "parallel/parameter_store.h"
#include "parallel/pipeline/stage.h"

namespace trefoil {

// A loss that a module made of a micro-batch. The module has seen to its gradient.
struct Loss {
  std::string name;
  Tensor values;  // float32; what counts is their sum
};
// The name of what training minimises: the loss of each target [M], the same on all tensor ranks.
inline constexpr char kTokenLoss[] = "loss";
// Of heads of classes and of encoders, of each target [M]: 1 where the likeliest class or token is the target and its weight is not 0.
inline constexpr char kCorrect[] = "correct";

struct ForwardPass;

class Module {
 public:
  // What a module keeps of a micro-batch from its forward to its backward.
  struct Saved {
    virtual ~Saved() = default;
  };
  virtual ~Module() = default;

  // From what the module before gives to what the one behind takes: tensors of whatever number and shapes the two agree
  // on, none at the beginning and the end of the model.
  virtual Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x,
                          ForwardPass* pass) const = 0;
  // The gradients of x from those of what the forward gave. Weight gradients go through `weights`.
  virtual Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& dy,
                           std::unique_ptr<Saved> saved, WeightGradients& weights) const = 0;
};

// What a forward is told and what it makes besides its result.
struct ForwardPass {
  // Told: the backward's weight gradients will wait (Stage::BackwardInput), so that they must not be made on the way.
  bool divided = false;
  std::unique_ptr<Module::Saved> saved = nullptr;  // in training
  std::vector<Loss> losses = {};                   // its own are added; any module may make some
};

// What a module, or the holder of some, does with a batch.
struct Role {
  bool reads_inputs = false;     // tokens or patches
  bool reads_decoder = false;    // what its decoder reads
  bool reads_lengths = false;    // where padding or documents begin; or the order of time
  bool reads_targets = false;
  bool makes_losses = false;     // with the name kTokenLoss

  bool reads() const { return reads_inputs || reads_decoder || reads_lengths || reads_targets; }
  Role operator|(const Role& other) const {
    return {reads_inputs || other.reads_inputs, reads_decoder || other.reads_decoder,
            reads_lengths || other.reads_lengths, reads_targets || other.reads_targets,
            makes_losses || other.makes_losses};
  }
};

struct ModuleSpec {
  std::string name;  // for reports: "embedding", "layer 3"; those of a series differ in a last number
  std::string kind;  // modules of one kind take the same time and memory: "block"
  // One of the blocks that are spread over virtual stages. What is between two of them stays with the second.
  bool block = false;
  Role role = {};
  // Shapes of what it takes, in the working dtype: what the module before gives.
  std::function<std::vector<Shape>(const Context&, const MicroBatch&)> takes = nullptr;
  std::function<void(ParameterTable*)> declare = nullptr;
  std::function<std::unique_ptr<Module>(const ParameterStore&)> build = nullptr;
  // Of training on one sample, forward and backward, recomputation not counted.
  std::function<double()> flops = nullptr;
};

// Of a config whose family is set.
std::vector<ModuleSpec> ModulesOf(const ModelConfig& config);

}  // namespace trefoil
