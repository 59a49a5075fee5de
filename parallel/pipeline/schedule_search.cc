#include "parallel/pipeline/schedule_search.h"

#include <glog/logging.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <queue>
#include <tuple>
#include <utility>

namespace trefoil {
namespace {

using Lists = std::vector<std::vector<Action>>;  // by stage

constexpr double kNever = std::numeric_limits<double>::infinity();

// Rules of thumb.
struct Choice {
  // Forwards of the first chunk before the first backward: so many for each stage from here to the last.
  double warm_up = 1;
  // Backwards come before forwards; else by turns.
  bool backward_first = true;
  // Of two chunks, forwards of the second come first.
  bool deep_first = true;
  // Weights wait until there is nothing else to do; else, until they would take no longer than `patience` of their time too
  // much of what is known to come.
  double patience = 0;
  // Messages that a stage may have sent to another, of one kind, beyond the one that is being used there. A send waits for
  // the one before it (SimulateSchedule): 1 where receives are early, 0 for all.
  int ahead = 1;
};

// Makes lists on a clock: whoever is free chooses among what has come.
class Greedy {
 public:
  Greedy(const ScheduleProblem& problem, const Choice& choice)
      : problem_(problem), map_(problem.virtual_stages), choice_(choice), parts_(static_cast<size_t>(map_.size())) {
    for (int v = 0; v < map_.size(); ++v) {
      Part& part = parts_[static_cast<size_t>(v)];
      part.activations.assign(static_cast<size_t>(problem.micro_batches), v == 0 ? 0 : kNever);
      part.gradients.assign(part.activations.size(), kNever);
    }
    stages_.resize(static_cast<size_t>(map_.stages()));
    lists_.resize(stages_.size());
  }

  // The lists of computations, and when the last one ends.
  std::pair<Lists, double> Run() {
    for (int s = 0; s < map_.stages(); ++s) wake_.emplace(0, s);
    while (!wake_.empty()) {
      const auto [now, s] = wake_.top();
      wake_.pop();
      Stage& stage = stages_[static_cast<size_t>(s)];
      if (now < stage.free) continue;  // it has begun something since
      Choose(s, now);
    }
    double end = 0;
    for (size_t s = 0; s < stages_.size(); ++s) {
      CHECK_EQ(lists_[s].size(), static_cast<size_t>(3 * map_.chunks() * problem_.micro_batches)) << "stage " << s;
      end = std::max(end, stages_[s].free);
    }
    return {std::move(lists_), end};
  }

 private:
  // A virtual stage.
  struct Part {
    int forwards = 0, backwards = 0;             // begun
    std::vector<double> activations, gradients;  // when they come, by micro-batch
  };
  struct Stage {
    double free = 0;
    int held = 0;
    bool forward_was_last = false;
    std::deque<Action> weights;  // that wait
  };

  Part& PartOf(int stage, int chunk) { return parts_[static_cast<size_t>(map_.Of(stage, chunk))]; }
  static double At(const std::vector<double>& times, int i) {
    return static_cast<size_t>(i) < times.size() ? times[static_cast<size_t>(i)] : kNever;
  }

  // When the chunk's next forward, or backward, could begin as far as what comes to it is known.
  double ForwardReady(int stage, int chunk) {
    const Part& part = PartOf(stage, chunk);
    // Room is left for forwards further on, which are on the way to their backwards.
    const int room = problem_.in_flight - (map_.chunks() - 1 - chunk);
    if (stages_[static_cast<size_t>(stage)].held >= room) return kNever;
    if (chunk == 0 && part.forwards - part.backwards >= WarmUp(stage)) return kNever;
    const int here = map_.Of(stage, chunk);
    if (here < map_.last() && WouldWait(here, here + 1, &Part::forwards)) return kNever;
    return At(part.activations, part.forwards);
  }
  double BackwardReady(int stage, int chunk) {
    const Part& part = PartOf(stage, chunk);
    const int here = map_.Of(stage, chunk);
    if (here > 0 && WouldWait(here, here - 1, &Part::backwards)) return kNever;
    return At(part.gradients, part.backwards);
  }
  // Whether what is done next would wait to be sent to another stage.
  bool WouldWait(int from, int to, int Part::*done) const {
    const int sent = parts_[static_cast<size_t>(from)].*done, used = parts_[static_cast<size_t>(to)].*done;
    return map_.StageOf(from) != map_.StageOf(to) && sent - used > choice_.ahead;
  }
  int WarmUp(int stage) const {
    const double chunks_behind = static_cast<double>((map_.stages() - stage) * map_.chunks());
    return std::max(1, static_cast<int>(choice_.warm_up * chunks_behind));
  }

  void Choose(int s, double now) {
    Stage& stage = stages_[static_cast<size_t>(s)];
    int forward = -1, backward = -1;  // chunks
    double next = kNever;             // when something more comes
    const auto look = [&](double ready, int chunk, bool deep, int* chosen) {
      if (ready > now) {
        next = std::min(next, ready);
      } else if (*chosen < 0 || deep) {
        *chosen = chunk;
      }
    };
    for (int chunk = 0; chunk < map_.chunks(); ++chunk) {
      look(ForwardReady(s, chunk), chunk, choice_.deep_first, &forward);
      look(BackwardReady(s, chunk), chunk, /*deep=*/true, &backward);
    }
    const bool turn_of_forward = !choice_.backward_first && !stage.forward_was_last;
    if (forward >= 0 && (backward < 0 || turn_of_forward)) return Begin(s, ActionKind::kForward, forward, now);
    if (backward >= 0) return Begin(s, ActionKind::kBackwardInput, backward, now);
    if (!stage.weights.empty()) {
      const Action& oldest = stage.weights.front();
      const double seconds = TimesOf(s, oldest.chunk).backward_weight;
      if (next - now >= choice_.patience * seconds) return Begin(s, ActionKind::kBackwardWeight, oldest.chunk, now);
    }
    if (next < kNever) wake_.emplace(next, s);  // else whoever sends wakes it
  }

  const ChunkTimes& TimesOf(int stage, int chunk) const {
    return problem_.times[static_cast<size_t>(map_.Of(stage, chunk))];
  }

  void Begin(int s, ActionKind kind, int chunk, double now) {
    Stage& stage = stages_[static_cast<size_t>(s)];
    Part& part = PartOf(s, chunk);
    const int v = map_.Of(s, chunk);
    const double end = now + TimesOf(s, chunk).of(kind);
    Action action = {.kind = kind, .micro_batch = 0, .chunk = chunk};
    if (kind == ActionKind::kForward) {
      action.micro_batch = part.forwards++;
      ++stage.held;
      v == map_.last() ? Come(v, &Part::gradients, action.micro_batch, end, s)
                       : Come(v + 1, &Part::activations, action.micro_batch, end, s);
    } else if (kind == ActionKind::kBackwardInput) {
      action.micro_batch = part.backwards++;
      stage.weights.push_back({.kind = ActionKind::kBackwardWeight, .micro_batch = action.micro_batch, .chunk = chunk});
      if (v > 0) Come(v - 1, &Part::gradients, action.micro_batch, end, s);
    } else {
      action = stage.weights.front();
      stage.weights.pop_front();
      --stage.held;
    }
    if (kind != ActionKind::kBackwardWeight) stage.forward_was_last = kind == ActionKind::kForward;
    // Who sent what is used now may send again.
    if (kind == ActionKind::kForward && v > 0) wake_.emplace(now, map_.StageOf(v - 1));
    if (kind == ActionKind::kBackwardInput && v < map_.last()) wake_.emplace(now, map_.StageOf(v + 1));
    lists_[static_cast<size_t>(s)].push_back(action);
    stage.free = end;
    wake_.emplace(end, s);
  }

  void Come(int v, std::vector<double> Part::*to, int micro_batch, double end, int from) {
    const int stage = map_.StageOf(v);
    const double at = end + (stage == from ? 0 : problem_.message);
    (parts_[static_cast<size_t>(v)].*to)[static_cast<size_t>(micro_batch)] = at;
    wake_.emplace(at, stage);
  }

  const ScheduleProblem& problem_;
  const VirtualStages& map_;
  const Choice choice_;
  std::vector<Part> parts_;
  std::vector<Stage> stages_;
  Lists lists_;
  using Wake = std::pair<double, int>;
  std::priority_queue<Wake, std::vector<Wake>, std::greater<Wake>> wake_;
};

Lists WithMessagesOfAll(Lists lists, const VirtualStages& virtual_stages) {
  for (size_t s = 0; s < lists.size(); ++s) {
    lists[s] = WithMessages(lists[s], virtual_stages, static_cast<int>(s));
  }
  return lists;
}

std::vector<Choice> Choices(int chunks) {
  std::vector<Choice> choices;
  for (const int ahead : {1, 0}) {
    for (const double warm_up : {1.0, 1.25, 1.5, 2.0, 1e6}) {
      for (const bool backward_first : {true, false}) {
        for (const bool deep_first : {true, false}) {
          if (!deep_first && chunks == 1) continue;
          for (const double patience : {0.0, 0.5, 1.0}) {
            choices.push_back({.warm_up = warm_up,
                               .backward_first = backward_first,
                               .deep_first = deep_first,
                               .patience = patience,
                               .ahead = ahead});
          }
        }
      }
    }
  }
  return choices;
}

// The named schedules of these virtual stages.
std::vector<Lists> NamedLists(const ScheduleProblem& problem) {
  const VirtualStages& map = problem.virtual_stages;
  std::vector<Lists> named;
  for (const ScheduleEntry& entry : Schedules()) {
    const bool alike = entry.order == map.order() || map.chunks() == 1;
    if (entry.searched() || !alike || map.chunks() < entry.least_chunks ||
        map.chunks() > entry.most_chunks || map.stages() < entry.least_stages ||
        problem.micro_batches < entry.least_micro_batches(map.stages())) {
      continue;
    }
    Lists& lists = named.emplace_back();
    for (int s = 0; s < map.stages(); ++s) {
      lists.push_back(BuildSchedule(entry.schedule, map.stages(), map.chunks(), problem.micro_batches, s));
    }
  }
  return named;
}

}  // namespace

double ChunkTimes::of(ActionKind kind) const {
  switch (kind) {
    case ActionKind::kForward: return forward;
    case ActionKind::kBackward: return backward_input + backward_weight;
    case ActionKind::kBackwardInput: return backward_input;
    case ActionKind::kBackwardWeight: return backward_weight;
    default: LOG(FATAL) << "no computation";
  }
}

ActionSeconds SecondsOf(const ScheduleProblem& problem) {
  return [problem](int stage, const Action& action) {
    if (action.kind == ActionKind::kReceiveActivation || action.kind == ActionKind::kReceiveGradient) {
      return problem.message;
    }
    return problem.times[static_cast<size_t>(problem.virtual_stages.Of(stage, action.chunk))].of(action.kind);
  };
}

std::vector<std::vector<Action>> SearchSchedule(const ScheduleProblem& problem) {
  const VirtualStages& map = problem.virtual_stages;
  CHECK_EQ(problem.times.size(), static_cast<size_t>(map.size()));
  CHECK_GE(problem.in_flight, map.chunks());
  CHECK(map.chunks() == 1 || (map.chunks() == 2 && map.order() == VirtualStages::Order::kFold));
  // By the greedy clock's end; made again if it comes to that, since all lists take much memory.
  std::vector<std::pair<double, Choice>> choices;
  for (const Choice& choice : Choices(map.chunks())) choices.emplace_back(Greedy(problem, choice).Run().second, choice);
  std::stable_sort(choices.begin(), choices.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  double best = kNever;
  Lists chosen;
  const auto consider = [&](Lists lists) {
    const ScheduleTimes times = SimulateSchedule(lists, SecondsOf(problem));
    const int held = *std::max_element(times.peak_in_flight.begin(), times.peak_in_flight.end());
    if (held > problem.in_flight || times.makespan >= best) return;
    best = times.makespan;
    chosen = std::move(lists);
  };
  for (Lists& lists : NamedLists(problem)) consider(std::move(lists));
  constexpr int kConsidered = 3;
  int considered = 0;
  for (size_t i = 0; i < choices.size() && considered < kConsidered; ++i) {
    const auto& [end, choice] = choices[i];
    if (end >= best) break;
    Lists lists = WithMessagesOfAll(Greedy(problem, choice).Run().first, map);
    // Some groups do not receive early.
    if (choice.ahead > 0 && !ComesToItsEnd(lists, /*receives_early=*/false)) continue;
    consider(std::move(lists));
    ++considered;
  }
  CHECK(!chosen.empty());
  return chosen;
}

}  // namespace trefoil
