// Virtual stages: the consecutive parts that a pipelined model is cut into, and how they lie on the stages of the
// pipeline, which hold as many chunks each. The one map between the two; schedules, models, planner and reports ask it.
//
//   const VirtualStages virtual_stages(ParallelConfig::INTERLEAVED, /*stages=*/4, /*chunks=*/2);
//   virtual_stages.Of(/*stage=*/1, /*chunk=*/1);  // 5: between 4, on stage 0, and 6, on stage 2
//   virtual_stages.StageOf(5);                    // 1
//
// Virtual stage v receives activations from v - 1 and sends them to v + 1; gradients go the other way. The first begins
// the model, the last ends it.
//
// Threads: plain values.
#pragma once

#include "parallel/parallel.pb.h"

namespace trefoil {

class VirtualStages {
 public:
  enum class Order {
    kLoop,  // round and round: stage s holds s, s + S, s + 2 S ... of S stages
    kFold,  // there and back: stage s holds s, 2 S - 1 - s, 2 S + s ... (the V of Qi et al. 2024)
  };

  // One stage that holds all.
  VirtualStages() = default;
  VirtualStages(Order order, int stages, int chunks);
  // As a schedule has them (parallel/pipeline/schedule.h).
  VirtualStages(ParallelConfig::Schedule kind, int stages, int chunks);
  // Of a config without defaults.
  explicit VirtualStages(const ParallelConfig& parallel);

  Order order() const { return order_; }
  int stages() const { return stages_; }
  int chunks() const { return chunks_; }
  int size() const { return stages_ * chunks_; }
  int last() const { return size() - 1; }

  int Of(int stage, int chunk) const;
  int StageOf(int virtual_stage) const;
  int ChunkOf(int virtual_stage) const;

 private:
  // Whether the chunks numbered `chunk` go from the last stage to the first.
  bool Returns(int chunk) const { return order_ == Order::kFold && chunk % 2 == 1; }

  Order order_ = Order::kLoop;
  int stages_ = 1, chunks_ = 1;
};

}  // namespace trefoil
