// Adds up the partial sums that gradients are: over a bucket's replicas (parallel/placement.h) while the backward of
// earlier blocks still computes, then over the axes that split tokens (Parameter::partial_over) and between the two stages
// of a tied parameter. Brings the weights that came of them to every replica, while later buckets are still updated.
//
//   GradientReducer reducer(store, device, homes, {.groups = groups, .tokens = Axis::kTensor, .tied = tied});
//   reducer.HomeDone(home);        // main thread: all micro-batches have added to this home's gradients
//   reducer.Finish();              // every bucket's GradientShard() holds the gradient of the global batch
//   reducer.GatherWeights(bucket); // this rank's shard of the bucket's working weights is updated
//   reducer.FinishGathers();       // the working weights are whole
//
// A bucket of one home is queued when the home is done, a tied bucket when both of its homes on this rank are. A thread
// of its own takes buckets in that order, which is the same on all replicas, and reduce-scatters (optimizer split) or
// all-reduces them. The sum is in rank order, so the result does not depend on timing. Gathers go to the same thread.
// On a device that only counts there is no thread, and all is done at once: what is counted does not depend on timing
// either. On a device with queues the thread's work starts after the backward (the update) whose results it sends, and
// what the main thread does after Finish (FinishGathers) starts after the sums (gathers): neither waits on the host for
// the device.
//
// Threads: all functions from the main thread. Between HomeDone and Finish that home's gradients belong to the reducer,
// between GatherWeights and FinishGathers the bucket's working weights, and in both times the replicas' groups.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "parallel/parameter_store.h"

namespace trefoil {

struct ReducerGroups {
  const AxisGroups& groups;  // has one along the replicas of each bucket, and along `tokens`
  AxisSet tokens = {};       // the axes, besides those of the replicas, that split tokens in this run
  Group* tied = nullptr;     // the two stages that hold a tied parameter, if this rank is on one of them; else null
};

class GradientReducer {
 public:
  // `homes`: of this rank. The store, device and groups outlive the reducer.
  GradientReducer(ParameterStore& store, Device& device, const std::vector<int>& homes, const ReducerGroups& groups);
  ~GradientReducer();

  void HomeDone(int home);
  // Of all homes at once, in whatever order they became so (a replayed recording). Where nothing has a second replica.
  void AllHomesDone();
  // Every home must be done.
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
  Group& ReplicasOf(const BucketMemory& memory) const { return groups_.groups[memory.bucket.replicas]; }
  void ReduceOverReplicas(BucketMemory& memory);
  void ReduceOverTokens(BucketMemory& memory);

  ParameterStore& store_;
  Device& device_;
  const ReducerGroups groups_;
  const std::set<int> homes_;
  std::set<int> done_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Ready> queue_;
  Device::Mark performed_;  // the last task
  bool busy_ = false, stop_ = false;
  std::thread thread_;  // only where a bucket has more than one replica, on a device that computes
};

}  // namespace trefoil
