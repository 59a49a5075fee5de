// Pipeline schedules as data: for each stage, the list of its actions in order. One short loop runs the list
// (parallel/pipeline/pipeline.h); tests prove it; the planner draws it.
//
// The model is cut into virtual stages, which a stage holds as its chunks (parallel/pipeline/virtual_stages.h). Each
// passes activations on to the next and gradients to the one before: by messages between stages; where both lie on one
// stage, without.
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
// A new schedule is an enumerator in parallel/parallel.proto and an entry of the table in schedule.cc, with the
// function that lists its computations: rules, defaults, the planner's search and the map of virtual stages go by the
// table.
//
// Sources: GPipe (Huang et al. 2019), 1F1B (Narayanan et al. 2019, PipeDream-Flush in 2021), interleaved 1F1B
// (Narayanan et al. 2021, section 2.2), the zero-bubble schedules (parallel/pipeline/zero_bubble.h).
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "parallel/pipeline/virtual_stages.h"

namespace trefoil {

enum class ActionKind : uint8_t {
  kForward,
  kBackward,           // gradients of the chunk's input and weights
  kBackwardInput,      // gradient of the chunk's input; weight gradients are queued
  kBackwardWeight,     // the queued weight gradients
  kSendActivation,     // to the next virtual stage; returns at once
  kReceiveActivation,  // from the one before
  kSendGradient,       // to the one before
  kReceiveGradient,    // from the next
};

struct Action {
  ActionKind kind = ActionKind::kForward;
  int micro_batch = 0;
  int chunk = 0;      // of this stage
  int peer = 0;       // stage at the other end of a send or receive
  // Of a send or receive: the boundary between virtual stages that it crosses and in which direction, below twice their
  // number: even for activations, odd for gradients, so that these travel in lanes of their own (Group::kLanes).
  // Messages of one tag, and of one lane, are received in the order of sending.
  int tag = 0;
  // Of a forward: its backward comes in two.
  bool divided = false;
  // Of a forward: the chunk of this stage that takes the activation over, where the next virtual stage lies here too;
  // of a backward the chunk that takes the gradient. -1: none.
  int hand_to = -1;
  bool operator==(const Action&) const = default;
};

// All that differs between schedules.
struct ScheduleEntry {
  ParallelConfig::Schedule schedule = ParallelConfig::SCHEDULE_UNSET;
  VirtualStages::Order order = VirtualStages::Order::kLoop;  // in which chunks lie on the stages
  int least_chunks = 1, most_chunks = 1;  // of a stage; a config that leaves them open has the least
  int least_stages = 1;
  bool whole_rounds = false;  // micro-batches come in rounds of as many as there are stages
  int (*least_micro_batches)(int stages) = [](int) { return 1; };
  // A stage's micro-batches add to the gradients of any of its weights one after the other, as they are numbered, each
  // with its backward: what sums of groups of them ask for (parallel/gradient_reducer.h).
  bool adds_in_turn = true;
  // Of `stage`, in order: kind, micro-batch and chunk of each. None where lists are searched for
  // (parallel/pipeline/schedule_search.h).
  std::vector<Action> (*computations)(int stages, int chunks, int micro_batches, int stage) = nullptr;
  bool searched() const { return computations == nullptr; }
};
std::span<const ScheduleEntry> Schedules();
// That of ONE_F_ONE_B for SCHEDULE_UNSET, and for numbers that are no schedule's, which the rules refuse.
const ScheduleEntry& EntryOf(ParallelConfig::Schedule schedule);

// The actions of `stage`, of as many stages, chunks and micro-batches as the schedule's entry allows, which is
// not searched for.
std::vector<Action> BuildSchedule(ParallelConfig::Schedule kind, int stages, int chunks, int micro_batches, int stage);

// A stage's computations with the messages and hand-overs that they need.
std::vector<Action> WithMessages(const std::vector<Action>& computations, const VirtualStages& virtual_stages,
                                 int stage);

// What running all stages' lists together does, by simulation of discrete events; CHECK-fails on a deadlock. As in
// parallel/pipeline/pipeline.h, a stage waits at a receive until the message has come, and at a send until what it sent
// before of the same kind (activation, gradient) to the same stage has come there. A message begins to move when it has
// been sent and its receive has been started: with early receives when the one before of its kind from that stage has
// been taken, the first at the beginning; else when it is waited for.
//
// How long an action of a stage takes: a computation; a receive, for the message to move. Sends take none.
using ActionSeconds = std::function<double(int stage, const Action& action)>;
// How fast everything goes while `active` stages compute or wait for a message that moves, 1 by default: for stages that
// share a processor.
using SharedSpeed = std::function<double(int active)>;
struct Span {
  double begin = 0, end = 0;  // seconds; from when the stage came to the action, until it went on
};
struct ScheduleTimes {
  double makespan = 0;
  std::vector<std::vector<Span>> spans;      // per stage, of each action of its list
  std::vector<double> busy;                  // per stage: computing
  std::vector<Span> working;                 // per stage: from the first computation's begin to the last one's end
  std::vector<int> peak_in_flight;           // per stage: most (micro-batch, chunk) pairs from F to the end of backward
  // Two bubbles, of which each schedule's author means one: idle share of the worst stage's makespan, 1 - busy / makespan;
  double bubble() const;
  // seconds that a stage is idle between its first computation and its last.
  double idle_within(int stage) const;
  // What it costs that all wait for the last before the next step: the makespan but for the longest stage's work from
  // first to last computation, in which a step could follow the one before if stages began each as they are through.
  double barrier_seconds() const;
};
ScheduleTimes SimulateSchedule(const std::vector<std::vector<Action>>& stages, const ActionSeconds& seconds,
                               const SharedSpeed& speed = nullptr, bool receives_early = true);

// Whether they come to their end. That does not depend on how long anything takes.
bool ComesToItsEnd(const std::vector<std::vector<Action>>& stages, bool receives_early);

// "F0 S0 ..." (letters as above) for messages and tests; chunk shown as F0.1 when not 0.
std::string ToString(const std::vector<Action>& actions);

}  // namespace trefoil
