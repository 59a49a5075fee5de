// A recurrent layer: tanh units (Elman 1990), or long short-term memory (Hochreiter & Schmidhuber 1997, with the forget
// gates of Gers et al. 2000):
//
//   gates_t = x_t W_input^T + bias + h_(t-1) W_recurrent^T,    h_t = tanh(gates_t), or the cell's
//
// Time steps come one after the other, each a product of B rows. Units are split over the tensor ranks: each rank has its
// units' gates and, before every step, gathers what the others' gave. With `bidirectional` half of the units read from
// the end.
//
//   x [n, C] -> gather tokens -> by time [T, B, C] -> gates [T * B, G U/t] -> T steps -> y [T, B, C] -> by sample [n, C]
//
// U units (C, or C/2 for each direction), G gates of a unit: 1, or 4 in the order input, forget, cell, output.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/context.h"
#include "model/layers/linear.h"
#include "model/module.h"

namespace trefoil {

class RecurrentLayer : public Module {
 public:
  // Of one direction.
  struct Steps {
    Tensor x;        // [T * B, C]
    Tensor gates;    // [T * B, G U/t] float32, activated
    Tensor cells;    // [(T + 1) * B, U/t] float32; LSTM only
    Tensor outputs;  // [(T + 1) * B, U]: all units', h_0 first
  };
  struct Saved : Module::Saved {
    std::vector<Steps> directions;
  };

  // Adds layers.LAYER.{forward,backward}.{input,recurrent}.GATE.weight and .input.GATE.bias.
  static void Declare(const ModelConfig& config, int layer, int module, ParameterTable* table);
  // Training on a sample.
  static double Flops(const ModelConfig& config);
  RecurrentLayer(const ParameterStore& store, const ModelConfig& config, int layer, int module);

  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& dy,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;

 private:
  struct Direction {
    ParameterView input, bias, recurrent;
  };
  void Run(const Context& context, const MicroBatch& batch, const Direction& direction, const Tensor& x,
           Steps* steps) const;
  // The gradient of the gates [T * B, G U/t], from that of this rank's units' outputs, by time [T * B, U/t].
  Tensor RunBack(const Context& context, const MicroBatch& batch, const Direction& direction, const Tensor& dy,
                 const Steps& steps) const;

  const ModelConfig config_;
  const std::string name_;
  const int module_;
  const Cell cell_;
  std::vector<Direction> directions_;
};

}  // namespace trefoil
