// One rank's share of a run: the only place that builds everything. The same for a training job, a rank of a test's
// threads world, and the planner's null device.
//
//   Worker worker(config, *world, *device);
//   worker.store.Initialize(config.training().seed(), worker.groups);
//
// Threads: the rank's main thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "model/transformer.h"
#include "parallel/collectives/world.h"
#include "parallel/gradient_reducer.h"
#include "parallel/mesh.h"
#include "parallel/parameter_store.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/weight_gatherer.h"
#include "training/optimizer/optimizer.h"
#include "training/run.pb.h"

namespace trefoil {

// Of activations and working weights.
DType WorkingDType(TrainingConfig::Precision precision);

// For the CPU device.
Bf16Products Bf16ProductsOf(const RuntimeConfig& runtime);

// Of a run's groups.
RankSums SumsOf(const RuntimeConfig& runtime);

// What a rank with these modules does with a run's batches: attention reads where documents begin.
Role RoleIn(const RunConfig& config, const std::vector<int>& modules);

// Whether a rank's stage looks at the data: one of its modules reads some of a batch. Others see shapes only.
bool ReadsData(const RunConfig& config, int rank);

// A micro-batch's forward and backward, recorded (runtime.graphs ON).
struct RecordedMicroBatch {
  MicroBatch input;  // what a replay reads
  Tensor loss;       // what it writes: the loss of each token [N]
  std::unique_ptr<Device::Recording> recording;
};

// What a training step does next, in this order, having given up the tensors of the step before: uploads what all
// micro-batches have in common, does each action, ends the reduction of gradients, updates parameters.
enum class StepPart { kConstants, kAction, kReduce, kUpdate };

struct Worker {
  // The config is filled and legal (training/config/validate.h) with its vocabulary set. World and device outlive the
  // worker.
  Worker(const RunConfig& config, World& world, Device& device);
  // With a list of actions and virtual stages of its own in place of the config's schedule.
  Worker(const RunConfig& config, World& world, Device& device, const VirtualStages& virtual_stages,
         std::vector<Action> actions);
  Worker(const Worker&) = delete;

  const RunConfig config;
  Device& device;
  const Mesh mesh;
  const StagePlace place;
  const ParameterTable table;
  const std::vector<int> modules;  // of this rank
  const Role role;                 // by its modules

  // If set, shown what the layers compute (model/context.h).
  Inspector inspector;

  Group* const all;  // the world's
  const AxisGroups groups;  // along each axis, along the replicas of each bucket, along the axes that split tokens
  Group *const tensor, *const context, *const data, *const pipeline;  // of them
  const TiedGroups tied;  // the stages that hold tied parameters
  const std::unique_ptr<Optimizer> optimizer;
  ParameterStore store;
  TaskQueue queue;
  GradientReducer reducer;
  WeightGatherer gatherer;
  Transformer transformer;
  const std::vector<Action> actions;  // of one training step
  // If set, called before each part of a step; with the action where it is one.
  std::function<void(StepPart, const Action*)> observer;

  // For TrainStep: a step has run unrecorded; the recording, once there is one.
  bool stepped = false;
  RecordedMicroBatch recorded;

  // Micro-batches of this rank per step.
  int micro_batches() const;
};

}  // namespace trefoil
