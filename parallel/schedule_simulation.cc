// SimulateSchedule of parallel/schedule.h.
#include <glog/logging.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "parallel/schedule.h"

namespace trefoil {
namespace {

// One stage on its way through its list.
struct Runner {
  size_t next = 0;  // action
  double now = 0, busy = 0;
  int in_flight = 0, peak_in_flight = 0;
};

}  // namespace

double ScheduleTimes::bubble() const {
  return makespan == 0 ? 0 : 1 - *std::min_element(busy.begin(), busy.end()) / makespan;
}

ScheduleTimes SimulateSchedule(const std::vector<std::vector<Action>>& stages, int chunks,
                               const ScheduleCosts& costs) {
  CHECK(!stages.empty());
  CHECK_GE(chunks, 1);
  std::map<std::tuple<int, int, int>, double> arrivals;  // (from, to, tag) -> when it can be received
  std::vector<Runner> runners(stages.size());
  // Runs stage s until its list ends or it waits for a message that is not sent yet; whether it got anywhere.
  auto advance = [&](int s) {
    Runner& runner = runners[s];
    const size_t start = runner.next;
    auto compute = [&](double cost) {
      runner.now += cost / chunks;
      runner.busy += cost / chunks;
    };
    for (; runner.next < stages[s].size(); ++runner.next) {
      const Action& action = stages[s][runner.next];
      switch (action.kind) {
        case ActionKind::kForward:
          compute(costs.forward);
          runner.peak_in_flight = std::max(runner.peak_in_flight, ++runner.in_flight);
          break;
        case ActionKind::kBackwardInput:
          compute(costs.backward_input);
          break;
        case ActionKind::kBackwardWeight:
          compute(costs.backward_weight);
          --runner.in_flight;
          break;
        case ActionKind::kSendActivation:
        case ActionKind::kSendGradient:
          CHECK(arrivals.emplace(std::tuple(s, action.peer, action.tag), runner.now + costs.send).second)
              << "stage " << s << " sends tag " << action.tag << " twice to stage " << action.peer;
          break;
        case ActionKind::kReceiveActivation:
        case ActionKind::kReceiveGradient: {
          const auto message = arrivals.find({action.peer, s, action.tag});
          if (message == arrivals.end()) return runner.next > start;
          runner.now = std::max(runner.now, message->second);
          break;
        }
      }
    }
    return runner.next > start;
  };

  for (bool moved = true; moved;) {
    moved = false;
    for (size_t s = 0; s < stages.size(); ++s) moved |= advance(static_cast<int>(s));
  }
  ScheduleTimes times;
  for (size_t s = 0; s < stages.size(); ++s) {
    const Runner& runner = runners[s];
    CHECK_EQ(runner.next, stages[s].size())
        << "deadlock: stage " << s << " waits for ever at " << ToString({stages[s][runner.next]}) << " for stage "
        << stages[s][runner.next].peer;
    times.makespan = std::max(times.makespan, runner.now);
    times.busy.push_back(runner.busy);
    times.peak_in_flight.push_back(runner.peak_in_flight);
  }
  return times;
}

}  // namespace trefoil
