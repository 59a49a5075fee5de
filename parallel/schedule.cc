#include "parallel/schedule.h"

#include <glog/logging.h>

#include <algorithm>

namespace trefoil {
namespace {

// One stage's computations in order; messages are added around them afterwards.
struct Step {
  bool forward;
  int micro_batch, chunk;
};

std::vector<Step> GPipe(int micro_batches) {
  std::vector<Step> steps;
  for (int i = 0; i < micro_batches; ++i) steps.push_back({true, i, 0});
  for (int i = 0; i < micro_batches; ++i) steps.push_back({false, i, 0});
  return steps;
}

// `warm_up` forwards, then forward and backward by turns, then the backwards that are left. forward_at(k) and
// backward_at(k) name the k-th of each.
template <typename ForwardAt, typename BackwardAt>
std::vector<Step> OneForwardOneBackward(int total, int warm_up, ForwardAt forward_at, BackwardAt backward_at) {
  std::vector<Step> steps;
  for (int k = 0; k < warm_up; ++k) steps.push_back(forward_at(k));
  for (int k = warm_up; k < total; ++k) {
    steps.push_back(forward_at(k));
    steps.push_back(backward_at(k - warm_up));
  }
  for (int k = total - warm_up; k < total; ++k) steps.push_back(backward_at(k));
  return steps;
}

std::vector<Step> OneFOneB(int stages, int micro_batches, int stage) {
  return OneForwardOneBackward(
      micro_batches, std::min(stages - stage - 1, micro_batches), [](int k) { return Step{true, k, 0}; },
      [](int k) { return Step{false, k, 0}; });
}

// Micro-batches advance in groups of `stages`: each chunk takes the whole group before the next chunk does.
std::vector<Step> Interleaved(int stages, int chunks, int micro_batches, int stage) {
  const int total = micro_batches * chunks;
  const int warm_up = std::min((stages - stage - 1) * 2 + (chunks - 1) * stages, total);
  auto micro_batch = [=](int k) { return k / (stages * chunks) * stages + k % stages; };
  auto chunk = [=](int k) { return k / stages % chunks; };
  return OneForwardOneBackward(
      total, warm_up, [=](int k) { return Step{true, micro_batch(k), chunk(k)}; },
      [=](int k) { return Step{false, micro_batch(k), chunks - 1 - chunk(k)}; });
}

}  // namespace

std::vector<Action> BuildSchedule(ParallelConfig::Schedule kind, int stages, int chunks, int micro_batches,
                                  int stage) {
  CHECK_GE(stages, 1);
  CHECK(0 <= stage && stage < stages) << "stage " << stage << " of " << stages;
  CHECK_GE(micro_batches, 1);
  CHECK_GE(chunks, 1);
  std::vector<Step> steps;
  switch (kind) {
    case ParallelConfig::GPIPE:
      CHECK_EQ(chunks, 1);
      steps = GPipe(micro_batches);
      break;
    case ParallelConfig::SCHEDULE_UNSET:
    case ParallelConfig::ONE_F_ONE_B:
      CHECK_EQ(chunks, 1);
      steps = OneFOneB(stages, micro_batches, stage);
      break;
    case ParallelConfig::INTERLEAVED:
      CHECK_GE(chunks, 2);
      CHECK_EQ(micro_batches % stages, 0) << micro_batches << " micro-batches over " << stages << " stages";
      steps = Interleaved(stages, chunks, micro_batches, stage);
      break;
    default:
      LOG(FATAL) << "schedule " << kind;
  }

  const int pieces = stages * chunks;
  const int next_stage = (stage + 1) % stages, previous_stage = (stage + stages - 1) % stages;
  std::vector<Action> actions;
  for (const auto& [forward, micro_batch, chunk] : steps) {
    const int piece = chunk * stages + stage;
    const bool has_previous = stages > 1 && piece > 0, has_next = stages > 1 && piece < pieces - 1;
    auto add = [&](ActionKind action) { actions.push_back({action, micro_batch, chunk, 0, 0}); };
    // `boundary` is the piece on the near side of the boundary that the message crosses.
    auto add_message = [&](ActionKind action, int peer, int boundary, int direction) {
      actions.push_back({action, micro_batch, chunk, peer, boundary * 2 + direction});
    };
    if (forward) {
      if (has_previous) add_message(ActionKind::kReceiveActivation, previous_stage, piece - 1, 0);
      add(ActionKind::kForward);
      if (has_next) add_message(ActionKind::kSendActivation, next_stage, piece, 0);
    } else {
      if (has_next) add_message(ActionKind::kReceiveGradient, next_stage, piece, 1);
      add(ActionKind::kBackward);
      if (has_previous) add_message(ActionKind::kSendGradient, previous_stage, piece - 1, 1);
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
