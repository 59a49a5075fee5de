// What the tests that hold the whole model against golden numbers share: a fixture's run on one rank, and comparisons.
#pragma once

#include <map>
#include <string>

#include "tests/golden/fixture.h"
#include "tests/model/model_testing.h"

namespace trefoil {

using Gradients = std::map<std::string, Values>;  // by parameter

// The run that a fixture was made of, in FP32. `more` is protobuf text format and overrides.
RunConfig GoldenConfig(const Fixture& golden, const std::string& more = "");

// A fixture's samples, in order: `global batch` of them per step. Weights are multiplied by `factor`. The fixture outlives
// it.
BatchSource GoldenBatches(const Fixture& golden, double factor = 1);

// Of the first global batch of `source`, whose weights, if any, have a mean of 1; and the losses of its targets.
Gradients FirstGradients(const RunConfig& config, const BatchSource& source, Values* losses = nullptr);
Gradients GradientsOf(Worker& worker);
Gradients GoldenGradients(const Fixture& golden);

double Norm(const Gradients& gradients);
double RootMeanSquareOf(const Gradients& gradients);

// The same parameters, of the same shapes, and the same initial weights.
void ExpectSameInitialWeights(const RunConfig& config, const Fixture& golden);
void ExpectSameGradients(const Gradients& gradients, const Gradients& reference, double tolerance);
// With dropout: losses of the first global batch (without weights), gradients and norm.
void ExpectSameDropout(const RunConfig& config, const BatchSource& source, const Fixture& golden, const Values& losses,
                       double tolerance);
// Loss and norm of every step, and the weights after the last.
void ExpectSameTraining(const RunConfig& config, const BatchSource& source, const Fixture& golden);
// What is recomputed is computed by the same calls on the same bits.
void ExpectRecomputationChangesNothing(const RunConfig& config, const BatchSource& source);

}  // namespace trefoil
