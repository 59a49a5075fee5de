// Adds up the partial sums that gradients are: over the data ranks while the backward of earlier blocks still computes,
// then over the tensor ranks (parameters used on split tokens) and between the two stages of a tied parameter.
//
//   GradientReducer reducer(store, homes, {.data = data, .tensor = tensor, .tied = tied, .sequence_parallel = true});
//   reducer.HomeDone(home);     // main thread: all micro-batches have added to this home's gradients
//   reducer.Finish();           // every bucket's GradientShard() holds the gradient of the global batch
//
// A bucket of one home is queued when the home is done, a tied bucket when both of its homes on this rank are. A thread
// of its own takes buckets in that order, which is the same on all data ranks, and reduce-scatters (optimizer split) or
// all-reduces them. The sum is in rank order, so the result does not depend on timing.
// On a device that only counts there is no thread, and HomeDone reduces at once: what is counted does not depend on
// timing either. On a device with queues the thread's work starts after the backward that it sums, and what the main
// thread does after Finish starts after the sums: neither waits on the host for the other.
//
// Threads: HomeDone and Finish from the main thread. Between HomeDone and Finish that home's gradients, and the data
// group, belong to the reducer.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "parallel/parameter_store.h"

namespace trefoil {

struct ReducerGroups {
  Group& data;
  Group& tensor;
  Group* tied = nullptr;  // the first and the last stage, if this rank is on one of them and they are two; else null
  bool sequence_parallel = false;
};

class GradientReducer {
 public:
  // `homes`: of this rank. The store, device and groups outlive the reducer.
  GradientReducer(ParameterStore& store, Device& device, const std::vector<int>& homes, const ReducerGroups& groups);
  ~GradientReducer();

  void HomeDone(int home);
  // Every home must be done.
  void Finish();

 private:
  struct Ready {
    BucketMemory* memory;
    Device::Mark written;  // all gradients of the bucket
  };

  void Run();
  void ReduceOverData(BucketMemory& memory);
  void ReduceOverTensor(BucketMemory& memory);

  ParameterStore& store_;
  Device& device_;
  const ReducerGroups groups_;
  const std::set<int> homes_;
  std::set<int> done_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Ready> queue_;
  Device::Mark reduced_;  // the last bucket
  bool busy_ = false, stop_ = false;
  std::thread thread_;  // only with more than one data rank, on a device that computes
};

}  // namespace trefoil
