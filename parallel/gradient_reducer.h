// Adds up the partial sums that gradients are: over a bucket's replicas (parallel/placement.h) while the backward of
// earlier blocks still computes, then over the axes that split tokens (Parameter::partial_over) or matrices that make
// the gradient together (Parameter::summed_over), and between the stages of a tied parameter. Brings the weights that
// came of them to every replica, while later buckets are still updated.
//
//   GradientReducer reducer(store, device, queue, modules, {.groups = groups, .tokens = Axis::kTensor, .tied = tied});
//   reducer.ModuleAdded(module);   // main thread: one more micro-batch has added to this module's gradients
//   reducer.Finish();              // every bucket's gradient_shard holds the gradient of the global batch
//   reducer.GatherWeights(bucket); // this rank's shard of the bucket's working weights is updated
//   reducer.FinishGathers();       // the working weights are whole, but those that are split
//
// Micro-batches are added one after the other where they are made, into the bucket's gradients, but in groups of equal
// size: the sum of a group is a leaf of the order of addition that SumParts has (runtime/ops.h), which goes on over the
// ranks. With as many groups in all, the sum has the same bits however they are spread over the replicas.
//
// A module is done when all micro-batches have added. A bucket of one module is queued then, a tied bucket when all of
// its modules on this rank are done. The queue (parallel/task_queue.h) takes buckets in that order, which is the same on
// all replicas, and reduce-scatters (optimizer split) or all-reduces them: in the one order of addition, so the result
// does not depend on timing. Gathers go to the same queue. Buckets that are not trained have no part in any of it.
//
// Split gradients (ZeRO 2) are made in a slot (parallel/bucket_slots.h) that a layer gets when it asks for the first,
// and reduce-scattered and added to this rank's shard as soon as a micro-batch has added to all of the bucket's modules
// on this rank: so the ranks' sum of each micro-batch is made first, then that of micro-batches, and as many times the
// bytes are sent as there are micro-batches. A layer that finds all slots taken waits until the earliest has been
// reduced, whether its micro-batch has added all or not; backwards in two ask for gradients in the second half only
// (ParameterStore::TakeApart).
//
// Where the data ranks hold several copies of what is split, the sum is made within each, then over the copies; of split
// gradients that once a step.
//
// Threads: all functions from the main thread. Between a module's end and Finish its gradients belong to the reducer,
// between GatherWeights and FinishGathers the bucket's working weights, and in both times the replicas' groups.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "parallel/bucket_slots.h"
#include "parallel/parameter_store.h"
#include "parallel/task_queue.h"
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
  // `modules`: of this rank. The store, device, queue and groups outlive the reducer. Takes the slots' memory.
  GradientReducer(ParameterStore& store, Device& device, TaskQueue& queue, const std::vector<int>& modules,
                  const ReducerOptions& options);
  GradientReducer(const GradientReducer&) = delete;
  // Waits for what it has started.
  ~GradientReducer() { queue_.WaitForAll(); }

  void ModuleAdded(int module);
  // Of all modules at once, in whatever order they became so (a replayed recording). Where nothing has a second
  // replica.
  void AllModulesDone();
  // Every module must be done.
  void Finish();
  // Every replica makes the same calls in the same order, and FinishGathers after the last.
  void GatherWeights(BucketMemory& memory);
  void FinishGathers();

  // Of what a gradient is: one of this rank's own micro-batches (of split gradients one each, else all); of its
  // replicas' too; of the global batch.
  enum class SumOf { kRank, kReplicas, kAll };
  // If set, shown this rank's gradients of a bucket at these moments, from its element `begin` on. Before they are summed
  // on the queue's thread, else on the main thread; one at a time.
  std::function<void(SumOf sum, const Bucket& bucket, int64_t begin, const Tensor& gradients)> witness;

 private:
  // Room for one bucket's gradients until they have been reduced; zeros but while it is taken.
  struct Slot {
    Tensor memory;
    int bucket = -1;                // that has it; -1: none
    int64_t taken = 0;              // when, in the order of all that were
    TaskQueue::Ticket reduced = 0;  // what was in it last
  };

  // Gives the bucket a slot.
  void BringGradients(size_t bucket);
  // Takes it back, once it has been reduced.
  void ReduceIntoShard(size_t bucket);
  Group& ReplicasOf(const BucketMemory& memory) const { return options_.groups[memory.bucket.replicas]; }
  // Micro-batches that all of the bucket's modules on this rank have added.
  int AddedTo(const Bucket& bucket) const;
  // Adds the group of micro-batches that has ended, number `group` from 0, to those before it.
  void FoldGroup(BucketMemory& memory, int group);
  void ReduceOverReplicas(BucketMemory& memory);
  // The same share of each copy, where there are several.
  void AddCopies(BucketMemory& memory);
  // The axes, besides those of the replicas, over which its gradient is a partial sum in this run.
  AxisSet PartialOver(const Parameter& parameter) const;
  void Show(SumOf sum, const BucketMemory& memory, int64_t begin, const Tensor& gradients) const {
    if (witness) witness(sum, memory.bucket, begin, gradients);
  }
  void ReduceOverTokens(BucketMemory& memory);
  void AddUp(const std::vector<Tensor>& parts, Group& group);

  ParameterStore& store_;
  Device& device_;
  TaskQueue& queue_;
  const ReducerOptions options_;
  std::map<int, int> added_;  // by module: micro-batches

  BucketSlots slots_;
  std::vector<std::vector<Slot>> made_;  // by kind
  int64_t taken_ = 0;
};

}  // namespace trefoil
