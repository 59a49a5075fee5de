#include "parallel/pipeline/schedule.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "parallel/pipeline/zero_bubble.h"

namespace trefoil {
namespace {

Action Forward(int micro_batch, int chunk) {
  return {.kind = ActionKind::kForward, .micro_batch = micro_batch, .chunk = chunk};
}
Action Backward(int micro_batch, int chunk) {
  return {.kind = ActionKind::kBackward, .micro_batch = micro_batch, .chunk = chunk};
}

std::vector<Action> GPipe(int /*stages*/, int /*chunks*/, int micro_batches, int /*stage*/) {
  std::vector<Action> actions;
  for (int i = 0; i < micro_batches; ++i) actions.push_back(Forward(i, 0));
  for (int i = 0; i < micro_batches; ++i) actions.push_back(Backward(i, 0));
  return actions;
}

// `warm_up` forwards, then forward and backward by turns, then the backwards that are left. forward_at(k) and
// backward_at(k) name the k-th of each.
template <typename ForwardAt, typename BackwardAt>
std::vector<Action> OneForwardOneBackward(int total, int warm_up, ForwardAt forward_at, BackwardAt backward_at) {
  std::vector<Action> actions;
  for (int k = 0; k < warm_up; ++k) actions.push_back(forward_at(k));
  for (int k = warm_up; k < total; ++k) {
    actions.push_back(forward_at(k));
    actions.push_back(backward_at(k - warm_up));
  }
  for (int k = total - warm_up; k < total; ++k) actions.push_back(backward_at(k));
  return actions;
}

std::vector<Action> OneFOneB(int stages, int /*chunks*/, int micro_batches, int stage) {
  return OneForwardOneBackward(
      micro_batches, std::min(stages - stage - 1, micro_batches), [](int k) { return Forward(k, 0); },
      [](int k) { return Backward(k, 0); });
}

// Micro-batches advance in groups of `stages`: each chunk takes the whole group before the next chunk does.
std::vector<Action> Interleaved(int stages, int chunks, int micro_batches, int stage) {
  const int total = micro_batches * chunks;
  const int warm_up = std::min((stages - stage - 1) * 2 + (chunks - 1) * stages, total);
  auto micro_batch = [=](int k) { return k / (stages * chunks) * stages + k % stages; };
  auto chunk = [=](int k) { return k / stages % chunks; };
  return OneForwardOneBackward(
      total, warm_up, [=](int k) { return Forward(micro_batch(k), chunk(k)); },
      [=](int k) { return Backward(micro_batch(k), chunks - 1 - chunk(k)); });
}

// Of those with as many chunks in the same order, one that holds more comes behind; GPIPE apart.
constexpr ScheduleEntry kTable[] = {
    {.schedule = ParallelConfig::GPIPE,
     .adds_in_turn = false,  // the head adds in the forward, and all forwards come first
     .computations = GPipe},
    {.schedule = ParallelConfig::ONE_F_ONE_B,
     .computations = OneFOneB},
    {.schedule = ParallelConfig::INTERLEAVED,
     .least_chunks = 2,
     .most_chunks = std::numeric_limits<int>::max(),
     .least_stages = 2,
     .whole_rounds = true,
     .computations = Interleaved},
    {.schedule = ParallelConfig::ZB_H1,
     .least_stages = 2,
     .computations = ZbH1},
    {.schedule = ParallelConfig::ZB_H2,
     .least_stages = 2,
     .computations = ZbH2},
    {.schedule = ParallelConfig::ZB_V,
     .order = VirtualStages::Order::kFold,
     .least_chunks = 2,
     .most_chunks = 2,
     .least_stages = 2,
     .least_micro_batches = [](int stages) { return 2 * stages - 1; },
     .adds_in_turn = false,  // stage 0 has the head and the embedding, which may be one matrix
     .computations = ZbV},
    {.schedule = ParallelConfig::DUALPIPE_V,
     .order = VirtualStages::Order::kFold,
     .least_chunks = 2,
     .most_chunks = 2,
     .least_stages = 2,
     .least_micro_batches = [](int stages) { return 2 * stages; },
     .adds_in_turn = false,
     .computations = DualPipeV},
    {.schedule = ParallelConfig::AUTO,
     .order = VirtualStages::Order::kFold,
     .most_chunks = 2,
     .least_stages = 2,
     .adds_in_turn = false},  // of two chunks
};

}  // namespace

std::span<const ScheduleEntry> Schedules() { return kTable; }

const ScheduleEntry& EntryOf(ParallelConfig::Schedule schedule) {
  const auto find = [](ParallelConfig::Schedule one) {
    return std::find_if(std::begin(kTable), std::end(kTable),
                        [one](const ScheduleEntry& entry) { return entry.schedule == one; });
  };
  const auto found = find(schedule);
  return found != std::end(kTable) ? *found : *find(ParallelConfig::ONE_F_ONE_B);
}

std::vector<Action> BuildSchedule(ParallelConfig::Schedule kind, int stages, int chunks, int micro_batches,
                                  int stage) {
  const ScheduleEntry& entry = EntryOf(kind);
  const VirtualStages virtual_stages(kind, stages, chunks);
  CHECK(0 <= stage && stage < stages) << "stage " << stage << " of " << stages;
  CHECK(!entry.searched()) << ParallelConfig::Schedule_Name(kind) << " is searched for";
  CHECK_GE(micro_batches, entry.least_micro_batches(stages));
  CHECK(!entry.whole_rounds || micro_batches % stages == 0)
      << micro_batches << " micro-batches over " << stages << " stages";
  return WithMessages(entry.computations(stages, chunks, micro_batches, stage), virtual_stages, stage);
}

std::vector<Action> WithMessages(const std::vector<Action>& computations, const VirtualStages& virtual_stages,
                                 int stage) {
  std::set<std::pair<int, int>> divided;  // micro-batch and chunk
  for (const Action& computation : computations) {
    if (computation.kind == ActionKind::kBackwardInput) divided.insert({computation.micro_batch, computation.chunk});
  }
  std::vector<Action> actions;
  for (Action computation : computations) {
    const int here = virtual_stages.Of(stage, computation.chunk);
    // A message that crosses the boundary behind virtual stage `boundary` between here and `there`, if that is one.
    const auto add_message = [&](ActionKind kind, int there, int boundary, int direction) {
      if (there < 0 || there > virtual_stages.last() || virtual_stages.StageOf(there) == stage) return;
      actions.push_back({.kind = kind,
                         .micro_batch = computation.micro_batch,
                         .chunk = computation.chunk,
                         .peer = virtual_stages.StageOf(there),
                         .tag = boundary * 2 + direction});
    };
    const auto hand_to = [&](int there) {
      const bool local = 0 <= there && there <= virtual_stages.last() && virtual_stages.StageOf(there) == stage;
      return local ? virtual_stages.ChunkOf(there) : -1;
    };
    switch (computation.kind) {
      case ActionKind::kForward:
        add_message(ActionKind::kReceiveActivation, here - 1, here - 1, 0);
        computation.hand_to = hand_to(here + 1);
        computation.divided = divided.contains({computation.micro_batch, computation.chunk});
        actions.push_back(computation);
        add_message(ActionKind::kSendActivation, here + 1, here, 0);
        break;
      case ActionKind::kBackward:
      case ActionKind::kBackwardInput:
        add_message(ActionKind::kReceiveGradient, here + 1, here, 1);
        computation.hand_to = hand_to(here - 1);
        actions.push_back(computation);
        add_message(ActionKind::kSendGradient, here - 1, here - 1, 1);
        break;
      case ActionKind::kBackwardWeight:
        actions.push_back(computation);
        break;
      default:
        LOG(FATAL) << ToString({computation}) << " is no computation";
    }
  }
  return actions;
}

std::string ToString(const std::vector<Action>& actions) {
  std::string text;
  for (const Action& action : actions) {
    if (!text.empty()) text += ' ';
    switch (action.kind) {
      case ActionKind::kForward: text += 'F'; break;
      case ActionKind::kBackward: text += 'B'; break;
      case ActionKind::kBackwardInput: text += 'I'; break;
      case ActionKind::kBackwardWeight: text += 'W'; break;
      case ActionKind::kSendActivation: text += 'S'; break;
      case ActionKind::kReceiveActivation: text += 'R'; break;
      case ActionKind::kSendGradient: text += 's'; break;
      case ActionKind::kReceiveGradient: text += 'r'; break;
    }
    text += std::to_string(action.micro_batch);
    if (action.chunk != 0) text += '.' + std::to_string(action.chunk);
  }
  return text;
}

}  // namespace trefoil
