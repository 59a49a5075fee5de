#include "parallel/pipeline/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/schedule_search.h"
#include "tests/parallel/fold_schedule.h"

namespace trefoil {
namespace {

using Stages = std::vector<std::vector<Action>>;

Stages AllStages(ParallelConfig::Schedule kind, int stages, int chunks, int micro_batches) {
  Stages all;
  for (int s = 0; s < stages; ++s) all.push_back(BuildSchedule(kind, stages, chunks, micro_batches, s));
  return all;
}

std::string Text(ParallelConfig::Schedule kind, int stages, int chunks, int micro_batches, int stage) {
  return ToString(BuildSchedule(kind, stages, chunks, micro_batches, stage));
}

TEST(Schedule, OneFOneBByHand) {
  EXPECT_EQ(Text(ParallelConfig::ONE_F_ONE_B, 2, 1, 3, 0), "F0 S0 F1 S1 r0 B0 F2 S2 r1 B1 r2 B2");
  EXPECT_EQ(Text(ParallelConfig::ONE_F_ONE_B, 2, 1, 3, 1), "R0 F0 B0 s0 R1 F1 B1 s1 R2 F2 B2 s2");
  EXPECT_EQ(Text(ParallelConfig::SCHEDULE_UNSET, 2, 1, 3, 1), Text(ParallelConfig::ONE_F_ONE_B, 2, 1, 3, 1));
  EXPECT_EQ(Text(ParallelConfig::ONE_F_ONE_B, 1, 1, 2, 0), "F0 B0 F1 B1");
}

TEST(Schedule, GPipeByHand) {
  EXPECT_EQ(Text(ParallelConfig::GPIPE, 3, 1, 2, 1), "R0 F0 S0 R1 F1 S1 r0 B0 s0 r1 B1 s1");
  EXPECT_EQ(Text(ParallelConfig::GPIPE, 1, 1, 2, 0), "F0 F1 B0 B1");
}

// Figure 2 of Qi et al. 2023, cut down to three stages and four micro-batches: W keeps back what is in flight to three.
TEST(Schedule, ZeroBubbleByHand) {
  EXPECT_EQ(Text(ParallelConfig::ZB_H1, 3, 1, 4, 0), "F0 S0 F1 S1 F2 S2 r0 I0 W0 F3 S3 r1 I1 W1 r2 I2 W2 r3 I3 W3");
  EXPECT_EQ(Text(ParallelConfig::ZB_H1, 3, 1, 4, 2), "R0 F0 I0 s0 R1 F1 I1 s1 R2 F2 I2 s2 W0 R3 F3 I3 s3 W1 W2 W3");
  EXPECT_EQ(Text(ParallelConfig::ZB_H2, 2, 1, 4, 0), "F0 S0 F1 S1 F2 S2 r0 I0 W0 F3 S3 r1 I1 W1 r2 I2 W2 r3 I3 W3");
  EXPECT_EQ(Text(ParallelConfig::ZB_H2, 2, 1, 4, 1), "R0 F0 I0 s0 R1 F1 I1 s1 R2 F2 I2 s2 W0 R3 F3 I3 s3 W1 W2 W3");
}

// Stage 0 has both ends of the model, the last stage hands over to itself.
TEST(Schedule, FoldedZeroBubbleByHand) {
  EXPECT_EQ(Text(ParallelConfig::ZB_V, 2, 2, 3, 0),
            "F0 S0 F1 S1 F2 S2 R0.1 F0.1 I0.1 s0.1 W0.1 R1.1 F1.1 I1.1 s1.1 W1.1 "
            "r0 I0 W0 R2.1 F2.1 I2.1 s2.1 W2.1 r1 I1 W1 r2 I2 W2");
  EXPECT_EQ(Text(ParallelConfig::ZB_V, 2, 2, 3, 1),
            "R0 F0 F0.1 S0.1 R1 F1 F1.1 S1.1 r0.1 I0.1 W0.1 R2 F2 I0 s0 W0 F2.1 S2.1 r1.1 I1.1 W1.1 "
            "I1 s1 r2.1 I2.1 I2 s2 W1 W2.1 W2");
  EXPECT_EQ(Text(ParallelConfig::DUALPIPE_V, 2, 2, 4, 0),
            "F0 S0 F1 S1 F2 S2 R0.1 F0.1 I0.1 s0.1 W0.1 R1.1 F1.1 F3 S3 B1.1 s1.1 R2.1 F2.1 r0 B0 "
            "B2.1 s2.1 R3.1 F3.1 r1 B1 B3.1 s3.1 r2 I2 W2 r3 I3 W3");
}

// Figure 4 of Narayanan et al. 2021, cut down to two stages and two micro-batches.
TEST(Schedule, InterleavedByHand) {
  EXPECT_EQ(Text(ParallelConfig::INTERLEAVED, 2, 2, 2, 0),
            "F0 S0 F1 S1 R0.1 F0.1 S0.1 R1.1 F1.1 S1.1 "
            "r0.1 B0.1 s0.1 r1.1 B1.1 s1.1 r0 B0 r1 B1");
  EXPECT_EQ(Text(ParallelConfig::INTERLEAVED, 2, 2, 2, 1),
            "R0 F0 S0 R1 F1 S1 R0.1 F0.1 B0.1 s0.1 R1.1 F1.1 B1.1 s1.1 "
            "r0 B0 s0 r1 B1 s1");
  EXPECT_EQ(Text(ParallelConfig::INTERLEAVED, 1, 2, 1, 0), "F0 F0.1 B0.1 B0");
}

// Every enumerator of the config is a schedule.
TEST(Schedules, AreThoseOfTheConfig) {
  std::set<int> entries, enumerators;
  for (const ScheduleEntry& entry : Schedules()) {
    entries.insert(entry.schedule);
    EXPECT_EQ(&EntryOf(entry.schedule), &entry);
  }
  const google::protobuf::EnumDescriptor& type = *ParallelConfig::Schedule_descriptor();
  for (int i = 0; i < type.value_count(); ++i) enumerators.insert(type.value(i)->number());
  enumerators.erase(ParallelConfig::SCHEDULE_UNSET);
  EXPECT_EQ(entries, enumerators);
}

// A forward of the last virtual stage, whose head adds to its weights there unless the backward comes in two, and a
// backward of any add: whether the next micro-batch comes to that before this one is through.
TEST(Schedules, AddInTurnIfTheySaySo) {
  for (const ScheduleEntry& entry : Schedules()) {
    if (entry.searched()) continue;
    const int stages = 4, chunks = entry.least_chunks, micro_batches = 8;
    const VirtualStages virtual_stages(entry.schedule, stages, chunks);
    bool in_turn = true;
    for (int stage = 0; stage < stages; ++stage) {
      std::map<int, std::vector<int>> adding;  // by chunk; of one matrix for the model's two ends, by -1
      const auto is_end = [&](int chunk) {
        const int here = virtual_stages.Of(stage, chunk);
        return here == 0 || here == virtual_stages.last();
      };
      for (const Action& action : BuildSchedule(entry.schedule, stages, chunks, micro_batches, stage)) {
        const bool head = virtual_stages.Of(stage, action.chunk) == virtual_stages.last();
        const bool adds = action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight ||
                          (action.kind == ActionKind::kForward && head && !action.divided);
        if (!adds) continue;
        adding[action.chunk].push_back(action.micro_batch);
        if (is_end(action.chunk)) adding[-1].push_back(action.micro_batch);
      }
      for (const auto& [chunk, order] : adding) in_turn = in_turn && std::is_sorted(order.begin(), order.end());
    }
    EXPECT_EQ(entry.adds_in_turn, in_turn) << ParallelConfig::Schedule_Name(entry.schedule);
  }
}

// The last stage of a fold hands over to itself.
TEST(Schedule, FoldByHand) {
  const Stages all = FoldSchedule(2, 1, /*divided=*/true);
  EXPECT_EQ(ToString(all[0]), "F0 S0 R0.1 F0.1 I0.1 s0.1 W0.1 r0 I0 W0");
  EXPECT_EQ(ToString(all[1]), "R0 F0 F0.1 S0.1 r0.1 I0.1 I0 s0 W0.1 W0");
  for (const Action& a : all[1]) {
    const bool over = (a.kind == ActionKind::kForward && a.chunk == 0) ||
                      (a.kind == ActionKind::kBackwardInput && a.chunk == 1);
    EXPECT_EQ(a.hand_to, over ? 1 - a.chunk : -1) << ToString({a});
  }
}

TEST(Schedule, ActionsCarryPeerAndTag) {
  const auto first = BuildSchedule(ParallelConfig::INTERLEAVED, 3, 2, 3, 0);
  const auto last = BuildSchedule(ParallelConfig::INTERLEAVED, 3, 2, 3, 2);
  // Virtual stage 2 (stage 2, chunk 0) feeds virtual stage 3 (stage 0, chunk 1).
  auto find = [](const std::vector<Action>& actions, ActionKind kind, int micro_batch, int chunk) {
    for (const Action& a : actions) {
      if (a.kind == kind && a.micro_batch == micro_batch && a.chunk == chunk) return a;
    }
    ADD_FAILURE() << "no such action";
    return Action();
  };
  const Action send = find(last, ActionKind::kSendActivation, 1, 0);
  const Action receive = find(first, ActionKind::kReceiveActivation, 1, 1);
  EXPECT_EQ(send.peer, 0);
  EXPECT_EQ(receive.peer, 2);
  EXPECT_EQ(send.tag, receive.tag);
}

// Durations of a whole stage's work, of which a chunk takes its share.
ActionSeconds Constant(int chunks, double forward, double backward_input, double backward_weight, double receive = 0) {
  return [=](int, const Action& action) {
    switch (action.kind) {
      case ActionKind::kForward:
        return forward / chunks;
      case ActionKind::kBackward:
        return (backward_input + backward_weight) / chunks;
      case ActionKind::kBackwardInput:
        return backward_input / chunks;
      case ActionKind::kBackwardWeight:
        return backward_weight / chunks;
      default:
        return receive;
    }
  };
}

struct Case {
  ParallelConfig::Schedule kind;
  int stages, chunks, micro_batches;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (int p = 1; p <= 8; ++p) {
    for (int m : {1, 2, 3, 5, 8, 12, 16, 23}) {
      cases.push_back({ParallelConfig::GPIPE, p, 1, m});
      cases.push_back({ParallelConfig::ONE_F_ONE_B, p, 1, m});
    }
    for (int v = 2; v <= 4; ++v) {
      for (int groups : {1, 2, 3, 5}) cases.push_back({ParallelConfig::INTERLEAVED, p, v, p * groups});
    }
    if (p == 1) continue;
    for (int m : {1, 2, 3, 5, 8, 12, 16, 23}) {
      cases.push_back({ParallelConfig::ZB_H1, p, 1, m});
      cases.push_back({ParallelConfig::ZB_H2, p, 1, m});
    }
    for (int more : {0, 1, 2, 5, 11}) {
      cases.push_back({ParallelConfig::ZB_V, p, 2, 2 * p - 1 + more});
      cases.push_back({ParallelConfig::DUALPIPE_V, p, 2, 2 * p + more});
    }
  }
  return cases;
}

std::string Describe(const Case& c) {
  return ParallelConfig::Schedule_Name(c.kind) + " p=" + std::to_string(c.stages) + " v=" + std::to_string(c.chunks) +
         " m=" + std::to_string(c.micro_batches);
}

struct Example {
  std::string name;
  VirtualStages virtual_stages;
  int micro_batches;
  std::set<std::string> kinds;  // of computations, in which a chunk's come
  Stages lists;
};

std::set<std::string> KindsOf(ParallelConfig::Schedule kind) {
  switch (kind) {
    case ParallelConfig::ZB_H1:
    case ParallelConfig::ZB_H2:
    case ParallelConfig::ZB_V:
      return {"FIW"};
    case ParallelConfig::DUALPIPE_V:
      return {"FB", "FIW"};
    default:
      return {"FB"};
  }
}

// Of unequal virtual stages, a long head among them.
ScheduleProblem Uneven(const VirtualStages& virtual_stages, int micro_batches, int in_flight) {
  ScheduleProblem problem = {.virtual_stages = virtual_stages,
                             .micro_batches = micro_batches,
                             .times = {},
                             .message = 0.1,
                             .in_flight = in_flight};
  for (int v = 0; v < virtual_stages.size(); ++v) {
    problem.times.push_back({.forward = 1 + 0.1 * (v % 3), .backward_input = 1.4 - 0.1 * (v % 2), .backward_weight = 0.8});
  }
  problem.times.back().forward = 1.6;
  return problem;
}

// The program's schedules, folds and what is found by search.
std::vector<Example> Examples() {
  std::vector<Example> examples;
  for (const Case& c : Cases()) {
    examples.push_back({.name = Describe(c),
                        .virtual_stages = VirtualStages(c.kind, c.stages, c.chunks),
                        .micro_batches = c.micro_batches,
                        .kinds = KindsOf(c.kind),
                        .lists = AllStages(c.kind, c.stages, c.chunks, c.micro_batches)});
  }
  for (const bool divided : {false, true}) {
    for (int p = 1; p <= 4; ++p) {
      for (int m = 1; m <= 8; ++m) {
        examples.push_back({.name = std::string(divided ? "divided" : "whole") + " fold p=" + std::to_string(p) +
                                    " m=" + std::to_string(m),
                            .virtual_stages = FoldOf(p),
                            .micro_batches = m,
                            .kinds = {divided ? "FIW" : "FB"},
                            .lists = FoldSchedule(p, m, divided)});
      }
    }
  }
  for (const int chunks : {1, 2}) {
    for (int p = 2; p <= 4; ++p) {
      for (const int m : {1, 3, 8}) {
        for (const int in_flight : {chunks, p * chunks}) {
          const VirtualStages virtual_stages(ParallelConfig::AUTO, p, chunks);
          examples.push_back({.name = "found p=" + std::to_string(p) + " v=" + std::to_string(chunks) + " m=" +
                                      std::to_string(m) + ", " + std::to_string(in_flight) + " in flight",
                              .virtual_stages = virtual_stages,
                              .micro_batches = m,
                              .kinds = {"FB", "FIW"},
                              .lists = SearchSchedule(Uneven(virtual_stages, m, in_flight))});
        }
      }
    }
  }
  return examples;
}

// Each stage does every (micro-batch, chunk) forward once, then backward once, whole or in two. Forwards are told which.
TEST(Schedule, EveryMicroBatchOnceForwardAndOnceBackward) {
  for (const Example& e : Examples()) {
    SCOPED_TRACE(e.name);
    for (const auto& actions : e.lists) {
      std::map<std::pair<int, int>, std::string> done;  // by micro-batch and chunk
      std::map<std::pair<int, int>, bool> divided;
      for (const Action& a : actions) {
        std::string& kinds = done[{a.micro_batch, a.chunk}];
        if (a.kind == ActionKind::kForward || a.kind == ActionKind::kBackward || a.kind == ActionKind::kBackwardInput ||
            a.kind == ActionKind::kBackwardWeight) {
          kinds += ToString({a})[0];
        }
        if (a.kind == ActionKind::kForward) divided[{a.micro_batch, a.chunk}] = a.divided;
      }
      ASSERT_EQ(done.size(), static_cast<size_t>(e.micro_batches * e.virtual_stages.chunks()));
      for (const auto& [key, kinds] : done) {
        ASSERT_TRUE(e.kinds.contains(kinds)) << kinds;
        ASSERT_EQ(divided.at(key), kinds == "FIW");
        ASSERT_TRUE(0 <= key.first && key.first < e.micro_batches);
        ASSERT_TRUE(0 <= key.second && key.second < e.virtual_stages.chunks());
      }
    }
  }
}

// What one stage sends to another in a lane is received in the order of sending: NCCL's messages have no tags.
TEST(Schedule, MessagesOfALaneAreReceivedInOrder) {
  bool other_order = false;  // without lanes
  for (const Example& e : Examples()) {
    SCOPED_TRACE(e.name);
    using Ends = std::pair<int, int>;  // sender and receiver
    std::map<std::pair<Ends, int>, std::vector<int>> sent, received;  // tags, by lane
    std::map<Ends, std::vector<int>> all_sent, all_received;
    for (int s = 0; s < e.virtual_stages.stages(); ++s) {
      for (const Action& a : e.lists[static_cast<size_t>(s)]) {
        if (a.kind == ActionKind::kSendActivation || a.kind == ActionKind::kSendGradient) {
          sent[{{s, a.peer}, a.tag % Group::kLanes}].push_back(a.tag);
          all_sent[{s, a.peer}].push_back(a.tag);
        } else if (a.kind == ActionKind::kReceiveActivation || a.kind == ActionKind::kReceiveGradient) {
          received[{{a.peer, s}, a.tag % Group::kLanes}].push_back(a.tag);
          all_received[{a.peer, s}].push_back(a.tag);
        }
      }
    }
    EXPECT_EQ(sent, received);
    other_order |= all_sent != all_received;
  }
  EXPECT_TRUE(other_order) << "some fold needs the lanes, or this test shows nothing";
}

// Messages of one sender, receiver and tag mean the same tensors at both ends, in order; each stands right beside its
// computation.
TEST(Schedule, MessagesMatch) {
  for (const Example& e : Examples()) {
    SCOPED_TRACE(e.name);
    using Key = std::tuple<int, int, int>;          // from, to, tag
    using Meaning = std::tuple<bool, int, int>;     // activation?, micro-batch, virtual stage that made it
    std::map<Key, std::vector<Meaning>> sent, received;
    int handed = 0;
    for (int s = 0; s < e.virtual_stages.stages(); ++s) {
      const std::vector<Action>& list = e.lists[static_cast<size_t>(s)];
      for (size_t i = 0; i < list.size(); ++i) {
        const Action& a = list[i];
        const int here = e.virtual_stages.Of(s, a.chunk);
        const Action* near = nullptr;  // the computation that the message belongs to
        std::string wanted = "F";
        switch (a.kind) {
          case ActionKind::kSendActivation:
            sent[Key(s, a.peer, a.tag)].emplace_back(true, a.micro_batch, here);
            near = &list[i - 1];
            break;
          case ActionKind::kSendGradient:
            sent[Key(s, a.peer, a.tag)].emplace_back(false, a.micro_batch, here);
            near = &list[i - 1];
            wanted = "BI";
            break;
          case ActionKind::kReceiveActivation:
            received[Key(a.peer, s, a.tag)].emplace_back(true, a.micro_batch, here - 1);
            near = &list[i + 1];
            break;
          case ActionKind::kReceiveGradient:
            received[Key(a.peer, s, a.tag)].emplace_back(false, a.micro_batch, here + 1);
            near = &list[i + 1];
            wanted = "BI";
            break;
          default:
            handed += a.hand_to >= 0 ? 1 : 0;
            continue;
        }
        ASSERT_NE(a.peer, s);
        ASSERT_TRUE(0 <= a.tag && a.tag < 2 * e.virtual_stages.size()) << "whatever the micro-batches";
        ASSERT_NE(wanted.find(ToString({*near})[0]), std::string::npos);
        ASSERT_EQ(std::pair(near->micro_batch, near->chunk), std::pair(a.micro_batch, a.chunk));
      }
    }
    ASSERT_EQ(sent, received);
    // All boundaries, both ways: a message where both sides are on two stages, else a hand-over.
    int between = 0;
    for (int v = 1; v < e.virtual_stages.size(); ++v) {
      between += e.virtual_stages.StageOf(v - 1) != e.virtual_stages.StageOf(v) ? 1 : 0;
    }
    ASSERT_EQ(sent.size(), static_cast<size_t>(2 * between));
    ASSERT_EQ(handed, 2 * (e.virtual_stages.last() - between) * e.micro_batches);
    for (const auto& [key, meanings] : sent) ASSERT_EQ(meanings.size(), static_cast<size_t>(e.micro_batches));
  }
}

// Nobody waits for ever, whatever takes long.
TEST(Schedule, AllComeToTheirEnd) {
  for (const Example& e : Examples()) {
    SCOPED_TRACE(e.name);
    for (const double receive : {0.0, 0.1, 10.0}) {
      for (const double backward : {0.1, 1.0, 3.0}) {
        const ScheduleTimes times =
            SimulateSchedule(e.lists, Constant(e.virtual_stages.chunks(), 1, backward, backward, receive));
        for (const double busy : times.busy) EXPECT_NEAR(busy, e.micro_batches * (1 + 2 * backward), 1e-9);
      }
    }
    for (const bool early : {false, true}) EXPECT_TRUE(ComesToItsEnd(e.lists, early));
  }
}

TEST(Schedule, BubbleAndMemoryFollowTheFormulas) {
  for (const Case& c : Cases()) {
    if (KindsOf(c.kind) != KindsOf(ParallelConfig::GPIPE)) continue;
    SCOPED_TRACE(Describe(c));
    const int p = c.stages, v = c.chunks, m = c.micro_batches;
    const Stages all = AllStages(c.kind, p, v, m);
    for (const auto& [forward, input, weight] : {std::tuple(1.0, 1.0, 1.0), std::tuple(1.0, 1.25, 0.5)}) {
      const ScheduleTimes times = SimulateSchedule(all, Constant(v, forward, input, weight));
      const double work = forward + input + weight;
      EXPECT_NEAR(times.makespan, m * work + (p - 1) * work / v, 1e-9);
      EXPECT_NEAR(times.bubble(), (p - 1.0) / v / (m + (p - 1.0) / v), 1e-9);
      for (int s = 0; s < p; ++s) {
        EXPECT_NEAR(times.busy[s], m * work, 1e-9);
        int held = m;
        if (c.kind == ParallelConfig::ONE_F_ONE_B) held = std::min(p - s, m);
        if (c.kind == ParallelConfig::INTERLEAVED) held = std::min(2 * (p - s - 1) + (v - 1) * p + 1, m * v);
        EXPECT_EQ(times.peak_in_flight[s], held);
      }
      if (c.kind == ParallelConfig::INTERLEAVED && m > p) {
        // Worst stage, in units of one stage's activations: p (1 + (p-1)/(p v)).
        EXPECT_NEAR(times.peak_in_flight[0] / static_cast<double>(v), p * (1 + (p - 1.0) / (p * v)), 1e-9);
      }
    }
  }
}

// The zero-bubble schedules with F, I and W of one length, in units of a chunk's: both bubbles, with and without a barrier
// behind the step, and what is held (the table of parallel/pipeline/zero_bubble.h).
TEST(Schedule, ZeroBubblesAreWhatIsDerived) {
  for (const Case& c : Cases()) {
    const int p = c.stages, v = c.chunks, m = c.micro_batches;
    if (KindsOf(c.kind) == KindsOf(ParallelConfig::GPIPE) || m < 2 * p) continue;
    SCOPED_TRACE(Describe(c));
    const ScheduleTimes times = SimulateSchedule(AllStages(c.kind, p, v, m), Constant(v, v, v, v));
    const bool fills = c.kind == ParallelConfig::ZB_H2 || c.kind == ParallelConfig::ZB_V;
    int most = 0;
    for (int r = 0; r < p; ++r) {
      EXPECT_NEAR(times.idle_within(r), fills ? 0 : p - 1 - r, 1e-9) << "stage " << r;
      most = std::max(most, times.peak_in_flight[static_cast<size_t>(r)]);
    }
    EXPECT_NEAR(times.makespan - 3.0 * v * m, p - 1, 1e-9);
    EXPECT_NEAR(times.barrier_seconds(), fills ? p - 1 : 0, 1e-9);
    const std::map<ParallelConfig::Schedule, int> held = {{ParallelConfig::ZB_H1, p},
                                                          {ParallelConfig::ZB_H2, 2 * p - 1},
                                                          {ParallelConfig::ZB_V, 2 * p},
                                                          {ParallelConfig::DUALPIPE_V, 2 * p + 1}};
    EXPECT_EQ(most, held.at(c.kind));
  }
}

// With other times, the worst stage's idle time between its first and last computation is that of the papers' formulas
// where W is no longer than F and I.
TEST(Schedule, ZeroBubblesFollowTheFormulas) {
  for (const auto& [forward, input, weight] : {std::tuple(1.0, 1.0, 1.0), std::tuple(1.0, 1.25, 0.5)}) {
    for (const int p : {2, 4, 8}) {
      const auto worst = [&](ParallelConfig::Schedule kind) {
        const ScheduleTimes times = SimulateSchedule(AllStages(kind, p, 1, 4 * p), Constant(1, forward, input, weight));
        double idle = 0;
        for (int r = 0; r < p; ++r) idle = std::max(idle, times.idle_within(r));
        return idle;
      };
      EXPECT_NEAR(worst(ParallelConfig::ONE_F_ONE_B), (p - 1) * (forward + input + weight), 1e-9);
      EXPECT_NEAR(worst(ParallelConfig::ZB_H1), (p - 1) * (forward + input - weight), 1e-9);
      EXPECT_NEAR(worst(ParallelConfig::ZB_H2), (p - 1) * (forward + input - 2 * weight), 1e-9);
    }
  }
}

// Interleaved 1F1B waits as long as ZB-H1 with three chunks, as ZB-V with six.
TEST(Schedule, InterleavingComesUpToZeroBubbles) {
  const int p = 4, m = 16;
  const auto step = [&](ParallelConfig::Schedule kind, int chunks) {
    return SimulateSchedule(AllStages(kind, p, chunks, m), Constant(chunks, 1, 1, 1)).makespan;
  };
  EXPECT_NEAR(step(ParallelConfig::INTERLEAVED, 3), step(ParallelConfig::ZB_H1, 1), 1e-9);
  EXPECT_NEAR(step(ParallelConfig::INTERLEAVED, 6), step(ParallelConfig::ZB_V, 2), 1e-9);
  EXPECT_NEAR(step(ParallelConfig::ZB_H2, 1), step(ParallelConfig::ZB_H1, 1), 1e-9);
}

// What is found keeps to the limit, and no named schedule that does is faster. It is faster itself where the limit is
// none of theirs, or micro-batches are few.
TEST(ScheduleSearch, IsNeverSlowerThanTheNamedOnes) {
  int faster = 0, compared = 0;
  for (const int chunks : {1, 2}) {
    for (const int p : {2, 4, 6}) {
      for (const int m : {3, 2 * p, 5 * p}) {
        for (const int half : {2, 3, 4}) {
          const VirtualStages virtual_stages(ParallelConfig::AUTO, p, chunks);
          ScheduleProblem problem = Uneven(virtual_stages, m, half * p * chunks / 2);
          for (ChunkTimes& times : problem.times) times.backward_input += 0.5;
          SCOPED_TRACE(testing::Message() << p << " stages of " << chunks << ", " << m << ", limit " << problem.in_flight);
          const ScheduleTimes found = SimulateSchedule(SearchSchedule(problem), SecondsOf(problem));
          for (const int peak : found.peak_in_flight) EXPECT_LE(peak, problem.in_flight);
          double best = std::numeric_limits<double>::infinity();
          for (const ScheduleEntry& entry : Schedules()) {
            const bool folds = entry.order == VirtualStages::Order::kFold;
            if (entry.searched() || folds != (chunks == 2) || chunks < entry.least_chunks ||
                chunks > entry.most_chunks || m < entry.least_micro_batches(p)) {
              continue;
            }
            const ScheduleTimes named = SimulateSchedule(AllStages(entry.schedule, p, chunks, m), SecondsOf(problem));
            const int held = *std::max_element(named.peak_in_flight.begin(), named.peak_in_flight.end());
            if (held <= problem.in_flight) best = std::min(best, named.makespan);
          }
          EXPECT_LE(found.makespan, best);
          if (best == std::numeric_limits<double>::infinity()) continue;
          ++compared;
          faster += found.makespan < 0.995 * best ? 1 : 0;
        }
      }
    }
  }
  EXPECT_GT(faster, compared / 4) << "of " << compared;
}

// With stages of one length it comes up to the named schedules, which are the best there.
TEST(ScheduleSearch, FindsTheNamedOnesWhereTheyAreBest) {
  for (const int p : {2, 4, 8}) {
    const VirtualStages virtual_stages(ParallelConfig::AUTO, p, 1);
    const ScheduleProblem problem = {.virtual_stages = virtual_stages,
                                     .micro_batches = 3 * p,
                                     .times = std::vector<ChunkTimes>(static_cast<size_t>(p)),
                                     .message = 0,
                                     .in_flight = p};
    const ScheduleTimes found = SimulateSchedule(SearchSchedule(problem), SecondsOf(problem));
    EXPECT_NEAR(found.makespan, 9 * p + p - 1, 1e-9);
  }
}

TEST(Schedule, EvaluationsDoNotWaitForEver) {
  for (const Example& e : Examples()) {
    SCOPED_TRACE(e.name);
    Stages all = e.lists;
    for (auto& actions : all) actions = ForwardOnly(actions);
    const ScheduleTimes times = SimulateSchedule(all, Constant(e.virtual_stages.chunks(), 1, 1, 1));
    for (const double busy : times.busy) EXPECT_NEAR(busy, e.micro_batches, 1e-9);
  }
}

TEST(Schedule, SlowLinksLengthenTheStep) {
  const Stages all = AllStages(ParallelConfig::ONE_F_ONE_B, 2, 1, 1);
  const ScheduleTimes times = SimulateSchedule(all, Constant(1, 1, 2, 3, /*receive=*/0.5));
  EXPECT_DOUBLE_EQ(times.makespan, 2 * (1 + 2 + 3) + 2 * 0.5);
}

// A message moves while its receiver computes if its receive is started early: of interleaved 1F1B all but what the
// beginning and the end of a step wait for is hidden.
TEST(Schedule, EarlyReceivesHideMessages) {
  const int p = 4, v = 2, m = 16;
  const Stages all = AllStages(ParallelConfig::INTERLEAVED, p, v, m);
  const auto step = [&](double receive, bool early) {
    return SimulateSchedule(all, Constant(v, 1, 1, 1, receive), nullptr, early).makespan;
  };
  const double free = step(0, true);
  EXPECT_DOUBLE_EQ(free, step(0, false));
  EXPECT_GT(step(0.05, false) - free, 1.5 * v * m * 0.05) << "nearly every computation waits for its message";
  EXPECT_LT(step(0.05, true) - free, (step(0.05, false) - free) / 2);
}

// Two stages, two micro-batches: the second activation moves while the first is computed on, once the first is taken.
TEST(Schedule, AReceiveIsStartedWhenTheOneBeforeIsTaken) {
  const Stages all = AllStages(ParallelConfig::GPIPE, 2, 1, 2);
  for (const bool early : {false, true}) {
    const ScheduleTimes times = SimulateSchedule(all, Constant(1, 1, 1, 1, /*receive=*/1), nullptr, early);
    // F0 0-1, its message 1-2; F1 1-2, its message from 2 or from when F0 is done, at 3.
    EXPECT_DOUBLE_EQ(times.spans[1][0].end, 2);
    EXPECT_DOUBLE_EQ(times.spans[1][2].end, early ? 3 : 4);
  }
}

TEST(ScheduleDeathTest, DeadlockIsNamed) {
  Stages all = AllStages(ParallelConfig::ONE_F_ONE_B, 2, 1, 2);
  std::erase_if(all[0], [](const Action& a) { return a.kind == ActionKind::kSendActivation && a.micro_batch == 1; });
  EXPECT_FALSE(ComesToItsEnd(all, true));
  EXPECT_DEATH(SimulateSchedule(all, Constant(1, 1, 1, 1)), "deadlock: stage 0 waits for ever at r1 for stage 1");
}

TEST(ScheduleDeathTest, InterleavedNeedsWholeGroups) {
  EXPECT_DEATH(BuildSchedule(ParallelConfig::INTERLEAVED, 4, 2, 6, 0), "6 micro-batches over 4 stages");
}

}  // namespace
}  // namespace trefoil
