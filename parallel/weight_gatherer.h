// Brings the weights of modules to a rank that keeps a share of each bucket (ZeRO 3), by the list of
// parallel/weight_gathers.h: whole buckets in the working dtype, from the shares of the bucket's replicas, into a few
// slots; of the next use while this one computes.
//
//   WeightGatherer gatherer(store, device, groups, queue);
//   gatherer.Begin(transformer.ModulesUsed(actions));   // of a step or an evaluation: what the slots hold counts no more
//   RunSchedule(actions, transformer, pipeline);        // each ParameterStore::Use is the list's next
//
// Threads: the main thread. The queue's does the gathers; every replica makes the same ones in the same order.
#pragma once

#include <functional>
#include <vector>

#include "parallel/axis_groups.h"
#include "parallel/bucket_slots.h"
#include "parallel/parameter_store.h"
#include "parallel/task_queue.h"
#include "parallel/weight_gathers.h"

namespace trefoil {

class WeightGatherer {
 public:
  // All outlive it. Takes the slots' memory.
  WeightGatherer(ParameterStore& store, Device& device, const AxisGroups& groups, TaskQueue& queue);
  WeightGatherer(const WeightGatherer&) = delete;

  // The uses that follow are of these modules. The list before need not have been run to its end.
  void Begin(const std::vector<int>& modules);
  const std::vector<Bucket>& buckets() const { return buckets_; }
  const BucketSlots& slots() const { return slots_; }  // none where no weights are split

  // If set, called when a use begins, with the number of the use, and before and after each gather is started, with its
  // bucket.
  struct Observer {
    std::function<void(int use)> use;
    std::function<void(size_t bucket, bool begins)> gather;
  };
  Observer observer;

 private:
  // The next use of the list.
  void Use(int module);
  void Start(const Gather& gather);

  ParameterStore& store_;
  const AxisGroups& groups_;
  TaskQueue& queue_;
  std::vector<Bucket> buckets_;
  BucketSlots slots_;
  std::vector<std::vector<Tensor>> memory_;  // of slots, by kind
  std::vector<std::vector<int>> held_;       // the bucket in each; -1: none
  std::vector<int> modules_;                 // of the uses
  std::vector<Gather> gathers_;
  std::vector<TaskQueue::Ticket> tickets_;   // by bucket: its last gather
  int next_use_ = 0;
  size_t next_gather_ = 0;
};

}  // namespace trefoil
