#include "parallel/pipeline/pipeline.h"

#include <map>
#include <utility>

namespace trefoil {
namespace {

// A stage's messages of one kind to or from one other: at most one is under way.
using Lane = std::pair<ActionKind, int>;  // the other stage
Lane LaneOf(const Action& action) { return {action.kind, action.peer}; }

// The receives of one lane, in the order of the list. Where the group can, each is started when the one before it has
// come, and the first at the list's first action, so that a message moves while the stage computes.
class ReceiveLane {
 public:
  ReceiveLane(const Lane& lane, const std::vector<Action>& actions, Stage& stage, Group& pipeline)
      : lane_(lane), actions_(actions), stage_(stage), pipeline_(pipeline) {}

  void StartNext() {
    if (!pipeline_.receives_early()) return;
    while (next_ < actions_.size() && LaneOf(actions_[next_]) != lane_) ++next_;
    if (next_ == actions_.size()) return;
    const Action& action = actions_[next_++];
    started_ = New(action);
    for (const Tensor& x : started_) pipeline_.StartReceive(x, action.peer, action.tag);
  }

  Tensors Take(const Action& action) {
    const Tensors xs = started_.empty() ? New(action) : std::exchange(started_, {});
    for (const Tensor& x : xs) pipeline_.Receive(x, action.peer, action.tag);
    StartNext();
    return xs;
  }

 private:
  Tensors New(const Action& action) {
    return action.kind == ActionKind::kReceiveActivation ? stage_.NewInput(action.chunk)
                                                         : stage_.NewOutputGradient(action.chunk);
  }

  const Lane lane_;
  const std::vector<Action>& actions_;
  Stage& stage_;
  Group& pipeline_;
  size_t next_ = 0;  // after the receive that was started last
  Tensors started_;
};

}  // namespace

void RunSchedule(const std::vector<Action>& actions, Stage& stage, Group& pipeline,
                 const std::function<void(const Action&)>& before) {
  using Key = std::pair<int, int>;  // micro-batch, chunk
  // Tensors on their way from a receive to the action that uses them, and from an action to its send.
  std::map<Key, Tensors> activations, gradients, outputs, input_gradients;
  auto take = [](std::map<Key, Tensors>& from, Key key) {
    auto node = from.extract(key);
    return node.empty() ? Tensors() : std::move(node.mapped());
  };
  // Of each lane the tags of the tensors sent last, which the group keeps.
  std::map<Lane, std::vector<int>> sent;
  auto send = [&](const Action& action, std::map<Key, Tensors>& from) {
    std::vector<int>& last = sent[LaneOf(action)];
    for (const int tag : std::exchange(last, {})) pipeline.FinishSend(action.peer, tag);
    for (const Tensor& x : take(from, {action.micro_batch, action.chunk})) {
      pipeline.Send(x, action.peer, action.tag);
      last.push_back(action.tag);
    }
  };
  std::map<Lane, ReceiveLane> receives;
  for (const Action& action : actions) {
    if (action.kind != ActionKind::kReceiveActivation && action.kind != ActionKind::kReceiveGradient) continue;
    receives.try_emplace(LaneOf(action), LaneOf(action), actions, stage, pipeline);
  }
  // A computation's result: handed over to another chunk, or left for the send.
  auto pass = [](const Action& action, Tensors xs, std::map<Key, Tensors>& to_chunk, std::map<Key, Tensors>& to_send) {
    const bool here = action.hand_to >= 0;
    (here ? to_chunk : to_send)[{action.micro_batch, here ? action.hand_to : action.chunk}] = std::move(xs);
  };
  bool begun = false;
  for (const Action& action : actions) {
    if (before) before(action);
    if (!std::exchange(begun, true)) {
      for (auto& [lane, receive] : receives) receive.StartNext();
    }
    const Key key(action.micro_batch, action.chunk);
    switch (action.kind) {
      case ActionKind::kReceiveActivation:
        activations[key] = receives.at(LaneOf(action)).Take(action);
        break;
      case ActionKind::kReceiveGradient:
        gradients[key] = receives.at(LaneOf(action)).Take(action);
        break;
      case ActionKind::kSendActivation:
        send(action, outputs);
        break;
      case ActionKind::kSendGradient:
        send(action, input_gradients);
        break;
      case ActionKind::kForward:
        pass(action, stage.Forward(action.micro_batch, action.chunk, take(activations, key), action.divided),
             activations, outputs);
        break;
      case ActionKind::kBackward:
        pass(action, stage.Backward(action.micro_batch, action.chunk, take(gradients, key)), gradients,
             input_gradients);
        break;
      case ActionKind::kBackwardInput:
        pass(action, stage.BackwardInput(action.micro_batch, action.chunk, take(gradients, key)), gradients,
             input_gradients);
        break;
      case ActionKind::kBackwardWeight:
        stage.BackwardWeight(action.micro_batch, action.chunk);
        break;
    }
  }
  pipeline.FinishSends();
}

std::vector<Action> ForwardOnly(const std::vector<Action>& actions) {
  std::vector<Action> forward;
  for (const Action& action : actions) {
    if (action.kind == ActionKind::kForward || action.kind == ActionKind::kSendActivation ||
        action.kind == ActionKind::kReceiveActivation) {
      forward.push_back(action);
    }
  }
  return forward;
}

}  // namespace trefoil
