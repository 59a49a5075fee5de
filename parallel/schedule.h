// Pipeline schedules as data: for each stage, the list of its actions in order. One short loop runs the list
// (parallel/pipeline.h); tests prove it; the planner draws it.
//
// The blocks of the model are cut into stages * chunks consecutive pieces; stage s holds pieces s, s + stages,
// s + 2 * stages ... as its chunks 0, 1, 2 ... Piece p receives activations from piece p - 1 and sends to piece p + 1;
// gradients go the other way. A message between two pieces of one stage (stages = 1) needs no action.
//
//   BuildSchedule(kOneFOneB, stages 2, chunks 1, micro-batches 3, stage 0):
//     F0 S0  F1 S1  r0 B0  F2 S2  r1 B1  r2 B2
//   and of stage 1:
//     R0 F0  B0 s0  R1 F1  B1 s1  R2 F2  B2 s2
//   F forward, B backward, or apart I and W, backward of input and of weights (the letters of PyTorch's pipelines);
//   S and R send and receive an activation, s and r a gradient.
//
// A receive stands right before the computation that needs it, a send right after the one that makes it.
//
// Sources: GPipe (Huang et al. 2019), 1F1B (Narayanan et al. 2019, PipeDream-Flush in 2021), interleaved 1F1B
// (Narayanan et al. 2021, section 2.2).
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/parallel.pb.h"

namespace trefoil {

enum class ActionKind : uint8_t {
  kForward,
  kBackward,           // gradients of the chunk's input and weights
  kBackwardInput,      // gradient of the chunk's input; weight gradients are queued
  kBackwardWeight,     // the queued weight gradients
  kSendActivation,     // to the next piece; returns at once
  kReceiveActivation,  // from the previous piece
  kSendGradient,       // to the previous piece
  kReceiveGradient,    // from the next piece
};

struct Action {
  ActionKind kind = ActionKind::kForward;
  int micro_batch = 0;
  int chunk = 0;      // of this stage
  int peer = 0;       // stage at the other end of a send or receive
  // Of a send or receive: the boundary between pieces that it crosses and in which direction, below 2 x pieces. Messages
  // of one tag are received in the order of sending, which is that of the micro-batches.
  int tag = 0;
  bool operator==(const Action&) const = default;
};

// The actions of `stage`. micro_batches >= 1; chunks > 1 only with INTERLEAVED, which needs micro_batches to be a
// multiple of stages. These three schedules do whole
// backwards.
std::vector<Action> BuildSchedule(ParallelConfig::Schedule kind, int stages, int chunks, int micro_batches, int stage);

// What running all stages' lists together does, by simulation of discrete events; CHECK-fails on a deadlock. As in
// parallel/pipeline.h, a stage waits at a receive until the message is there, and at a send until what it sent before of
// the same kind (activation, gradient) has been received.
//
// How long an action of a stage takes: a computation; a receive, from when its message has been sent and it is waited
// for. Sends take none.
using ActionSeconds = std::function<double(int stage, const Action& action)>;
// How fast everything goes while `active` stages compute or receive, 1 by default: for stages that share a processor.
using SharedSpeed = std::function<double(int active)>;
struct Span {
  double begin = 0, end = 0;  // seconds; from when the stage came to the action, until it went on
};
struct ScheduleTimes {
  double makespan = 0;
  std::vector<std::vector<Span>> spans;      // per stage, of each action of its list
  std::vector<double> busy;                  // per stage: computing
  std::vector<int> peak_in_flight;           // per stage: most (micro-batch, chunk) pairs between F and the end of the backward
  double bubble() const;                     // idle share of the worst stage's makespan: 1 - busy / makespan
};
ScheduleTimes SimulateSchedule(const std::vector<std::vector<Action>>& stages, const ActionSeconds& seconds,
                               const SharedSpeed& speed = nullptr);

// "F0 S0 ..." (letters as above) for messages and tests; chunk shown as F0.1 when not 0.
std::string ToString(const std::vector<Action>& actions);

}  // namespace trefoil
