#include "parallel/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "parallel/schedule.h"

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

TEST(Schedule, ActionsCarryPeerAndTag) {
  const auto first = BuildSchedule(ParallelConfig::INTERLEAVED, 3, 2, 3, 0);
  const auto last = BuildSchedule(ParallelConfig::INTERLEAVED, 3, 2, 3, 2);
  // Piece 2 (stage 2, chunk 0) feeds piece 3 (stage 0, chunk 1).
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
  }
  return cases;
}

std::string Describe(const Case& c) {
  return ParallelConfig::Schedule_Name(c.kind) + " p=" + std::to_string(c.stages) + " v=" + std::to_string(c.chunks) +
         " m=" + std::to_string(c.micro_batches);
}

// Each stage does every (micro-batch, chunk) forward once, then backward once: whole in all three schedules.
TEST(Schedule, EveryMicroBatchOnceForwardAndOnceBackward) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(Describe(c));
    for (const auto& actions : AllStages(c.kind, c.stages, c.chunks, c.micro_batches)) {
      std::map<std::pair<int, int>, int> progress;  // 1: forward done, 2: backward
      for (const Action& a : actions) {
        int& done = progress[{a.micro_batch, a.chunk}];
        ASSERT_NE(a.kind, ActionKind::kBackwardInput);
        ASSERT_NE(a.kind, ActionKind::kBackwardWeight);
        if (a.kind == ActionKind::kForward) {
          ASSERT_EQ(done, 0);
          done = 1;
        } else if (a.kind == ActionKind::kBackward) {
          ASSERT_EQ(done, 1);
          done = 2;
        }
      }
      ASSERT_EQ(progress.size(), static_cast<size_t>(c.micro_batches) * c.chunks);
      for (const auto& [key, done] : progress) {
        ASSERT_EQ(done, 2);
        ASSERT_TRUE(0 <= key.first && key.first < c.micro_batches && 0 <= key.second && key.second < c.chunks);
      }
    }
  }
}

// What one stage sends to another is received in the order of sending: NCCL's world knows no tags.
TEST(Schedule, MessagesOfAPairOfStagesAreReceivedInOrder) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(Describe(c));
    std::map<std::pair<int, int>, std::vector<int>> sent, received;  // tags, by sender and receiver
    for (int s = 0; s < c.stages; ++s) {
      for (const Action& a : BuildSchedule(c.kind, c.stages, c.chunks, c.micro_batches, s)) {
        if (a.kind == ActionKind::kSendActivation || a.kind == ActionKind::kSendGradient) {
          sent[{s, a.peer}].push_back(a.tag);
        } else if (a.kind == ActionKind::kReceiveActivation || a.kind == ActionKind::kReceiveGradient) {
          received[{a.peer, s}].push_back(a.tag);
        }
      }
    }
    EXPECT_EQ(sent, received);
  }
}

// Messages of one sender, receiver and tag mean the same tensors at both ends, in order; each stands right beside its
// computation.
TEST(Schedule, MessagesMatch) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(Describe(c));
    const Stages all = AllStages(c.kind, c.stages, c.chunks, c.micro_batches);
    using Key = std::tuple<int, int, int>;          // from, to, tag
    using Meaning = std::tuple<bool, int, int>;     // activation?, micro-batch, piece that made it
    std::map<Key, std::vector<Meaning>> sent, received;
    for (int s = 0; s < c.stages; ++s) {
      for (size_t i = 0; i < all[s].size(); ++i) {
        const Action& a = all[s][i];
        const int piece = a.chunk * c.stages + s;
        const Action* near = nullptr;  // the computation that the message belongs to
        ActionKind wanted = ActionKind::kForward;
        switch (a.kind) {
          case ActionKind::kSendActivation:
            sent[Key(s, a.peer, a.tag)].emplace_back(true, a.micro_batch, piece);
            near = &all[s][i - 1];
            break;
          case ActionKind::kSendGradient:
            sent[Key(s, a.peer, a.tag)].emplace_back(false, a.micro_batch, piece);
            near = &all[s][i - 1];
            wanted = ActionKind::kBackward;
            break;
          case ActionKind::kReceiveActivation:
            received[Key(a.peer, s, a.tag)].emplace_back(true, a.micro_batch, piece - 1);
            near = &all[s][i + 1];
            break;
          case ActionKind::kReceiveGradient:
            received[Key(a.peer, s, a.tag)].emplace_back(false, a.micro_batch, piece + 1);
            near = &all[s][i + 1];
            wanted = ActionKind::kBackward;
            break;
          default:
            continue;
        }
        ASSERT_NE(a.peer, s);
        ASSERT_TRUE(0 <= a.tag && a.tag < 2 * c.stages * c.chunks) << "whatever the micro-batches";
        ASSERT_EQ(near->kind, wanted);
        ASSERT_EQ(std::pair(near->micro_batch, near->chunk), std::pair(a.micro_batch, a.chunk));
      }
    }
    ASSERT_EQ(sent, received);
    // All boundaries between pieces, both ways, and no message where all pieces are on one stage.
    const int boundaries = c.stages == 1 ? 0 : c.stages * c.chunks - 1;
    ASSERT_EQ(sent.size(), static_cast<size_t>(2 * boundaries));
    for (const auto& [key, meanings] : sent) ASSERT_EQ(meanings.size(), static_cast<size_t>(c.micro_batches));
  }
}

TEST(Schedule, BubbleAndMemoryFollowTheFormulas) {
  for (const Case& c : Cases()) {
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

TEST(Schedule, EvaluationsDoNotWaitForEver) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(Describe(c));
    Stages all = AllStages(c.kind, c.stages, c.chunks, c.micro_batches);
    for (auto& actions : all) actions = ForwardOnly(actions);
    const ScheduleTimes times = SimulateSchedule(all, Constant(c.chunks, 1, 1, 1));
    for (const double busy : times.busy) EXPECT_NEAR(busy, c.micro_batches, 1e-9);
  }
}

TEST(Schedule, SlowLinksLengthenTheStep) {
  const Stages all = AllStages(ParallelConfig::ONE_F_ONE_B, 2, 1, 1);
  const ScheduleTimes times = SimulateSchedule(all, Constant(1, 1, 2, 3, /*receive=*/0.5));
  EXPECT_DOUBLE_EQ(times.makespan, 2 * (1 + 2 + 3) + 2 * 0.5);
}

TEST(ScheduleDeathTest, DeadlockIsNamed) {
  Stages all = AllStages(ParallelConfig::ONE_F_ONE_B, 2, 1, 2);
  std::erase_if(all[0], [](const Action& a) { return a.kind == ActionKind::kSendActivation && a.micro_batch == 1; });
  EXPECT_DEATH(SimulateSchedule(all, Constant(1, 1, 1, 1)), "deadlock: stage 0 waits for ever at r1 for stage 1");
}

TEST(ScheduleDeathTest, InterleavedNeedsWholeGroups) {
  EXPECT_DEATH(BuildSchedule(ParallelConfig::INTERLEAVED, 4, 2, 6, 0), "6 micro-batches over 4 stages");
}

}  // namespace
}  // namespace trefoil
