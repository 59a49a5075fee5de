// What the tests of the model share: tiny models, tokens to train them on, values as doubles, a world of one.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "training/step.h"
#include "training/worker.h"

namespace trefoil {

using Values = std::vector<double>;

// A whole config of a tiny model from text, on top of: hidden 32, heads 4, layers 3, an odd vocabulary, T 8, global
// batch 8, fp32. `more` is protobuf text format and overrides. Defaults are filled in; CHECKs that it is legal for its
// own number of ranks.
RunConfig TinyRun(ModelConfig::Family family, const std::string& more = "");
// Fills in and checks a config that may name no data.
RunConfig Completed(RunConfig config);
int RanksOf(const RunConfig& config);
std::string Describe(const RunConfig& config);  // "LLAMA t2 p2 d2 sp 1F1B zero1", for SCOPED_TRACE

// Samples that are a function of (sample, position), and something to learn: mostly one successor of each token.
BatchSource LearnableTokens(const ModelConfig& config);
// Of `length` tokens a sample, as many samples as there are; targets may be none.
Batch MakeBatch(int64_t length, int64_t first_sample, std::vector<int32_t> inputs, std::vector<int32_t> targets);

// Builds a rank's worker; without one, as the config says.
using NewWorker = std::function<std::unique_ptr<Worker>(const RunConfig& config, World& world, Device& device)>;
// A rank's worker with initial weights, given to `body` on every rank of the config, as threads.
void WithWorkers(const RunConfig& config, const std::function<void(Worker&)>& body,
                 const NewWorker& new_worker = nullptr);

// Of a decoder.
MicroBatch MakeMicroBatch(Device& device, const Batch& batch, bool training, float loss_scale);
// Forward and backward of the micro-batches of step 1 of `source`, up to and with the reduction of gradients.
void AddGradients(Worker& worker, const BatchSource& source);

Values Get(Device& device, const Tensor& x);
void Set(Device& device, const Tensor& x, const Values& values);

// |value - reference| <= tolerance * (|reference| + scale), everywhere; scale is the root mean square of the reference,
// but at least `floor`: what is zero but for rounding has no scale of its own. NaN never passes.
void ExpectClose(const Values& values, const Values& reference, double tolerance, const std::string& what,
                 double floor = 0);
double RootMeanSquare(const Values& values);

}  // namespace trefoil
