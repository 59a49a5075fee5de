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
  Simulation(const std::vector<std::vector<Action>>& lists, const ActionSeconds& seconds, const SharedSpeed& speed)
      : lists_(lists), seconds_(seconds), speed_(speed), runners_(lists.size()) {
    CHECK(!lists.empty());
    times_.busy.resize(lists.size());
    times_.peak_in_flight.resize(lists.size());
    for (const auto& list : lists) times_.spans.emplace_back(list.size());
  }

  ScheduleTimes Run() {
    for (size_t s = 0; s < lists_.size(); ++s) Advance(static_cast<int>(s));
    while (!ends_.empty()) {
      const auto [work, stage] = ends_.top();
      const double speed = speed_ ? speed_(static_cast<int>(ends_.size())) : 1;
      now_ += (work - work_) / speed;
      work_ = work;
      ends_.pop();
      Finish(stage);
    }
    for (size_t s = 0; s < lists_.size(); ++s) {
      const Runner& runner = runners_[s];
      CHECK_EQ(runner.next, lists_[s].size())
          << "deadlock: stage " << s << " waits for ever at " << ToString({lists_[s][runner.next]}) << " for stage "
          << lists_[s][runner.next].peer;
    }
    times_.makespan = now_;
    return std::move(times_);
  }

 private:
  // Activations, or gradients, that a stage has sent to one other.
  struct Lane {
    int sent = 0, received = 0;
  };
  struct Runner {
    size_t next = 0;  // action
    bool waits = false;
    int in_flight = 0;
    std::map<std::pair<int, bool>, Lane> lanes;  // by receiver, and whether of activations
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
  Lane& LaneOf(int from, int to, const Action& message) {
    return runners_[static_cast<size_t>(from)].lanes[{to, IsOfActivation(message)}];
  }

  // Runs stage s until something takes time or it waits for another stage.
  void Advance(int s) {
    Runner& runner = runners_[static_cast<size_t>(s)];
    const auto& list = lists_[static_cast<size_t>(s)];
    for (; runner.next < list.size(); ++runner.next) {
      const Action& action = list[runner.next];
      Span& span = times_.spans[static_cast<size_t>(s)][runner.next];
      if (!runner.waits) span.begin = now_;
      runner.waits = false;
      if (IsSend(action)) {
        Lane& lane = LaneOf(s, action.peer, action);
        if (lane.received < lane.sent) {
          runner.waits = true;
          return;
        }
        ++lane.sent;
        ++under_way_[{s, action.peer, action.tag}];
        span.end = now_;
        const Runner& peer = runners_[static_cast<size_t>(action.peer)];
        if (peer.waits && lists_[static_cast<size_t>(action.peer)][peer.next].tag == action.tag) Advance(action.peer);
        continue;
      }
      if (IsReceive(action)) {
        int& under_way = under_way_[{action.peer, s, action.tag}];
        if (under_way == 0) {
          runner.waits = true;
          return;
        }
        --under_way;
      }
      if (action.kind == ActionKind::kForward) {
        int& peak = times_.peak_in_flight[static_cast<size_t>(s)];
        peak = std::max(peak, ++runner.in_flight);
      }
      ends_.emplace(work_ + seconds_(s, action), s);
      return;
    }
  }

  // What stage s was doing has come to its end.
  void Finish(int s) {
    Runner& runner = runners_[static_cast<size_t>(s)];
    const Action& action = lists_[static_cast<size_t>(s)][runner.next];
    Span& span = times_.spans[static_cast<size_t>(s)][runner.next++];
    span.end = now_;
    if (IsReceive(action)) {
      ++LaneOf(action.peer, s, action).received;
      const Runner& sender = runners_[static_cast<size_t>(action.peer)];
      if (sender.waits) {
        const Action& next = lists_[static_cast<size_t>(action.peer)][sender.next];
        if (IsSend(next)) Advance(action.peer);
      }
    } else {
      times_.busy[static_cast<size_t>(s)] += span.end - span.begin;
      if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight) --runner.in_flight;
    }
    Advance(s);
  }

  const std::vector<std::vector<Action>>& lists_;
  const ActionSeconds& seconds_;
  const SharedSpeed& speed_;
  std::vector<Runner> runners_;
  std::map<std::tuple<int, int, int>, int> under_way_;  // messages sent but not taken, by sender, receiver and tag
  using End = std::pair<double, int>;  // on the clock of work; stage
  std::priority_queue<End, std::vector<End>, std::greater<End>> ends_;
  double now_ = 0, work_ = 0;
  ScheduleTimes times_;
};

}  // namespace

double ScheduleTimes::bubble() const {
  return makespan == 0 ? 0 : 1 - *std::min_element(busy.begin(), busy.end()) / makespan;
}

ScheduleTimes SimulateSchedule(const std::vector<std::vector<Action>>& stages, const ActionSeconds& seconds,
                               const SharedSpeed& speed) {
  return Simulation(stages, seconds, speed).Run();
}

}  // namespace trefoil
