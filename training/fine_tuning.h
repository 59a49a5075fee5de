// Which parameters a run trains, and how fast: training.fine_tuning.
//
//   const ParameterTable table = DeclareRun(config);   // the model's parameters (model/model.h), each with its rate
//
// With layer decay d the parameters of block l of L, counted from 1, have d^(L + 1 - l) of the learning rate, those of
// the embedding d^(L + 1), and those behind the last block all of it (Clark et al. 2020, ELECTRA; Bao et al. 2022,
// BEiT). L counts the blocks of an encoder and its decoder together; what stands between two blocks has the rate of the
// one before it. The embedding and the first `frozen_layers` blocks, and what `freeze` names, have the rate 0: they are
// not trained. Where there are low-rank adapters (model.lora), all else but a head of classes or values has it too. A
// parameter that several modules use goes with the first of them.
//
// What is not trained has no gradient, is not in the global norm, and keeps its bits, so that a checkpoint, which has
// it like any other, loads wherever one of the whole model does. Modules before the first that has something to train
// run as in an evaluation, and there is no backward through them.
//
// Threads: pure functions.
#pragma once

#include <string>

#include "model/model.h"
#include "runtime/config/rules.h"
#include "training/run.pb.h"

namespace trefoil {

// The config is filled and legal.
ParameterTable DeclareRun(const RunConfig& config);

// ModelFlops (model/model.h) of the run: a third of them makes the gradients of weights, which what is not trained does
// not have, and another those of activations, which modules before the first trained one do not have. In each module,
// its attention included, by the share of its parameters.
double TrainingFlops(const RunConfig& config);
// How they are counted, in a few words, for reports.
std::string TrainingFlopsRule(const RunConfig& config);

// Checks training.fine_tuning of a filled config that keeps all other rules.
void CheckFineTuning(const RunConfig& config, Rules& rules);

}  // namespace trefoil
