// SimulateSchedule of parallel/pipeline/schedule.h.
//
// Stages share one clock of work: while stages run at a common speed below 1, it goes slower than time does. Ends of
// what runs are events on that clock.
#include <glog/logging.h>

#include <algorithm>
#include <functional>
#include <map>
#include <queue>
#include <tuple>
#include <utility>

#include "parallel/pipeline/schedule.h"

namespace trefoil {
namespace {

class Simulation {
 public:
  Simulation(const std::vector<std::vector<Action>>& lists, const ActionSeconds& seconds, const SharedSpeed& speed,
             bool receives_early)
      : lists_(lists), seconds_(seconds), speed_(speed), early_(receives_early), runners_(lists.size()) {
    CHECK(!lists.empty());
    times_.busy.resize(lists.size());
    times_.working.resize(lists.size());
    times_.peak_in_flight.resize(lists.size());
    for (const auto& list : lists) times_.spans.emplace_back(list.size());
    for (size_t s = 0; s < lists.size(); ++s) {
      for (const Action& action : lists[s]) {
        if (!IsReceive(action)) continue;
        Lane& lane = LaneOf(action.peer, static_cast<int>(s), action);
        lane.receives.push_back(&action);
        if (early_) lane.started = 1;
      }
    }
  }

  ScheduleTimes Run() {
    for (size_t s = 0; s < lists_.size(); ++s) Advance(static_cast<int>(s));
    while (!ends_.empty()) {
      const End end = ends_.top();
      ends_.pop();
      const double speed = speed_ ? speed_(std::max(1, active_)) : 1;
      now_ += (end.work - work_) / speed;
      work_ = end.work;
      end.lane == nullptr ? Finish(end.stage) : Arrive(end.stage, *end.lane);
    }
    times_.makespan = now_;
    return std::move(times_);
  }

  // After Run: the first stage that waits for ever; -1 if none does.
  int Stuck() const {
    for (size_t s = 0; s < lists_.size(); ++s) {
      if (runners_[s].next < lists_[s].size()) return static_cast<int>(s);
    }
    return -1;
  }
  const Action* NextOf(int s) const {
    const auto& list = lists_[static_cast<size_t>(s)];
    const size_t next = runners_[static_cast<size_t>(s)].next;
    return next < list.size() ? &list[next] : nullptr;
  }

 private:
  // Activations, or gradients, from a stage to one other, one after the other.
  struct Lane {
    std::vector<const Action*> receives;  // of the receiver's list
    size_t sent = 0, started = 0, moving = 0, come = 0, taken = 0;  // messages; `moving`: begun to move
    bool awaited = false;   // the receiver waits for the one that moves
  };
  struct Runner {
    size_t next = 0;  // action
    bool waits = false, begun = false;
    int in_flight = 0;
  };
  // Of a stage's computation, or of a message to the stage.
  struct End {
    double work;  // on the clock of work
    int stage;
    Lane* lane;  // null: of a computation
    bool operator>(const End& other) const {
      return std::tuple(work, stage, lane != nullptr) > std::tuple(other.work, other.stage, other.lane != nullptr);
    }
  };

  static bool IsSend(const Action& action) {
    return action.kind == ActionKind::kSendActivation || action.kind == ActionKind::kSendGradient;
  }
  static bool IsReceive(const Action& action) {
    return action.kind == ActionKind::kReceiveActivation || action.kind == ActionKind::kReceiveGradient;
  }
  static bool IsOfActivation(const Action& action) {
    return action.kind == ActionKind::kSendActivation || action.kind == ActionKind::kReceiveActivation;
  }
  Lane& LaneOf(int from, int to, const Action& message) { return lanes_[{from, to, IsOfActivation(message)}]; }

  // Lets the lane's next message to stage `to` move if it can.
  void Move(int to, Lane& lane) {
    const size_t may_move = std::min({lane.sent, lane.started, lane.receives.size()});
    if (lane.moving > lane.come || lane.moving >= may_move) return;
    const Action& receive = *lane.receives[lane.moving++];
    if (lane.awaited) ++active_;
    ends_.push({work_ + seconds_(to, receive), to, &lane});
  }

  // Runs stage s until something takes time or it waits for another stage.
  void Advance(int s) {
    Runner& runner = runners_[static_cast<size_t>(s)];
    while (const Action* const action = NextOf(s)) {
      Span& span = times_.spans[static_cast<size_t>(s)][runner.next];
      if (!runner.waits) span.begin = now_;
      if (IsSend(*action)) {
        Lane& lane = LaneOf(s, action->peer, *action);
        runner.waits = lane.come < lane.sent;
        if (runner.waits) return;
        ++lane.sent;
        Move(action->peer, lane);
      } else if (IsReceive(*action)) {
        Lane& lane = LaneOf(action->peer, s, *action);
        if (lane.come == lane.taken) {
          if (runner.waits) return;
          runner.waits = true;
          if (!early_) ++lane.started;
          lane.awaited = true;
          if (lane.moving > lane.come) ++active_;
          Move(s, lane);
          return;
        }
        runner.waits = false;
        ++lane.taken;
        if (early_) ++lane.started;
        Move(s, lane);
      } else {
        if (action->kind == ActionKind::kForward) {
          int& peak = times_.peak_in_flight[static_cast<size_t>(s)];
          peak = std::max(peak, ++runner.in_flight);
        }
        if (!std::exchange(runner.begun, true)) times_.working[static_cast<size_t>(s)].begin = now_;
        ++active_;
        ends_.push({work_ + seconds_(s, *action), s, nullptr});
        return;
      }
      span.end = now_;
      ++runner.next;
    }
  }

  // A message has come to stage s.
  void Arrive(int s, Lane& lane) {
    const Action& receive = *lane.receives[lane.come++];
    if (std::exchange(lane.awaited, false)) {
      --active_;
      Advance(s);
    }
    const Action* const next = NextOf(receive.peer);
    const Runner& sender = runners_[static_cast<size_t>(receive.peer)];
    if (sender.waits && IsSend(*next)) Advance(receive.peer);
  }

  // What stage s was computing has come to its end.
  void Finish(int s) {
    Runner& runner = runners_[static_cast<size_t>(s)];
    const Action& action = *NextOf(s);
    Span& span = times_.spans[static_cast<size_t>(s)][runner.next++];
    span.end = times_.working[static_cast<size_t>(s)].end = now_;
    times_.busy[static_cast<size_t>(s)] += span.end - span.begin;
    if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight) --runner.in_flight;
    --active_;
    Advance(s);
  }

  const std::vector<std::vector<Action>>& lists_;
  const ActionSeconds& seconds_;
  const SharedSpeed& speed_;
  const bool early_;
  std::vector<Runner> runners_;
  std::map<std::tuple<int, int, bool>, Lane> lanes_;  // by sender, receiver, and whether of activations
  std::priority_queue<End, std::vector<End>, std::greater<End>> ends_;
  int active_ = 0;  // stages that compute or wait for a message that moves
  double now_ = 0, work_ = 0;
  ScheduleTimes times_;
};

}  // namespace

double ScheduleTimes::bubble() const {
  return makespan == 0 ? 0 : 1 - *std::min_element(busy.begin(), busy.end()) / makespan;
}

double ScheduleTimes::idle_within(int stage) const {
  const Span& span = working[static_cast<size_t>(stage)];
  return span.end - span.begin - busy[static_cast<size_t>(stage)];
}

double ScheduleTimes::barrier_seconds() const {
  double longest = 0;
  for (const Span& span : working) longest = std::max(longest, span.end - span.begin);
  return makespan - longest;
}

ScheduleTimes SimulateSchedule(const std::vector<std::vector<Action>>& stages, const ActionSeconds& seconds,
                               const SharedSpeed& speed, bool receives_early) {
  Simulation simulation(stages, seconds, speed, receives_early);
  ScheduleTimes times = simulation.Run();
  const int stuck = simulation.Stuck();
  CHECK_LT(stuck, 0) << "deadlock: stage " << stuck << " waits for ever at " << ToString({*simulation.NextOf(stuck)})
                     << " for stage " << simulation.NextOf(stuck)->peer;
  return times;
}

bool ComesToItsEnd(const std::vector<std::vector<Action>>& stages, bool receives_early) {
  const ActionSeconds none = [](int, const Action&) { return 0; };
  Simulation simulation(stages, none, nullptr, receives_early);
  simulation.Run();
  return simulation.Stuck() < 0;
}

}  // namespace trefoil
