// Adds up the partial sums that gradients are: over a bucket's replicas (parallel/placement.h) while the backward of
// earlier blocks still computes, then over the axes that split tokens (Parameter::partial_over) or matrices that make
// the gradient together (Parameter::summed_over), and between the stages of a tied parameter. Brings the weights that
// came of them to every replica, while later buckets are still updated.
//
//   GradientReducer reducer(store, device, modules, {.groups = groups, .tokens = Axis::kTensor, .tied = tied});
//   reducer.ModuleAdded(module);   // main thread: one more micro-batch has added to this module's gradients
//   reducer.Finish();              // every bucket's gradient_shard holds the gradient of the global batch
//   reducer.GatherWeights(bucket); // this rank's shard of the bucket's working weights is updated
//   reducer.FinishGathers();       // the working weights are whole
//
// Micro-batches are added one after the other where they are made, into the bucket's gradients, but in groups of equal
// size: the sum of a group is a leaf of the order of addition that SumParts has (runtime/ops.h), which goes on over the
// ranks. With as many groups in all, the sum has the same bits however they are spread over the replicas.
//
// A module is done when all micro-batches have added. A bucket of one module is queued then, a tied bucket when all of
// its modules on this rank are done. A thread of its own takes buckets in that order, which is the same on all
// replicas, and reduce-scatters (optimizer split) or all-reduces them: in the one order of addition, so the result does
// not depend on timing. Gathers go to the same thread. Buckets that are not trained have no part in any of it. On a
// device that only counts there is no thread, and all is done at once: what is counted does not depend on timing
// either. On a device with queues the thread's work starts after the backward (the update) whose results it sends, and
// what the main thread does after Finish (FinishGathers) starts after the sums (gathers): neither waits on the host for
// the device.
//
// Threads: all functions from the main thread. Between a module's end and Finish its gradients belong to the reducer,
// between GatherWeights and FinishGathers the bucket's working weights, and in both times the replicas' groups.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <map>
#include <thread>

#include "parallel/parameter_store.h"
#include "parallel/tied_groups.h"

namespace trefoil {

struct ReducerOptions {
  const AxisGroups& groups;  // has one along the replicas of each bucket, and along `tokens`
  AxisSet tokens = {};       // the axes, besides those of the replicas, that split tokens in this run
  const TiedGroups& tied;    // the stages that hold tied parameters
  int micro_batches = 1;     // of a step, on this rank
  int sum_groups = 1;        // that they are added in: 2 to the number of the buckets' group_sums, which divides them
};

class GradientReducer {
 public:
  // `modules`: of this rank. The store, device and groups outlive the reducer.
  GradientReducer(ParameterStore& store, Device& device, const std::vector<int>& modules,
                  const ReducerOptions& options);
  ~GradientReducer();

  void ModuleAdded(int module);
  // Of all modules at once, in whatever order they became so (a replayed recording). Where nothing has a second
  // replica.
  void AllModulesDone();
  // Every module must be done.
  void Finish();
  // Every replica makes the same calls in the same order, and FinishGathers after the last.
  void GatherWeights(BucketMemory& memory);
  void FinishGathers();

 private:
  enum class Task { kReduce, kGather };
  struct Ready {
    Task task;
    BucketMemory* memory;
    Device::Mark written;  // all gradients of the bucket, or the shard of its weights
  };

  void Run();
  // Now, or on the thread if there is one.
  void Start(Task task, BucketMemory& memory);
  void Perform(Task task, BucketMemory& memory);
  // Waits until the thread has queued all that was started; this thread's later ops start after it.
  void WaitForThread();
  Group& ReplicasOf(const BucketMemory& memory) const { return options_.groups[memory.bucket.replicas]; }
  // Micro-batches that all of the bucket's modules on this rank have added.
  int AddedTo(const Bucket& bucket) const;
  // Adds the group of micro-batches that has ended, number `group` from 0, to those before it.
  void FoldGroup(BucketMemory& memory, int group);
  void ReduceOverReplicas(BucketMemory& memory);
  // The axes, besides those of the replicas, over which its gradient is a partial sum in this run.
  AxisSet PartialOver(const Parameter& parameter) const;
  void ReduceOverTokens(BucketMemory& memory);
  void AddUp(const std::vector<Tensor>& parts, Group& group);

  ParameterStore& store_;
  Device& device_;
  const ReducerOptions options_;
  std::map<int, int> added_;  // by module: micro-batches

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Ready> queue_;
  Device::Mark performed_;  // the last task
  bool busy_ = false, stop_ = false;
  std::thread thread_;  // only where a trained bucket has more than one replica, on a device that computes
};

}  // namespace trefoil
