#include "parallel/pipeline.h"

#include <map>
#include <optional>
#include <utility>

namespace trefoil {
namespace {

// The receives of one kind, in the order of the list. Where the group can, each is started when the one before it has come,
// and the first at the list's first action, so that a message moves while the stage computes.
class ReceiveLane {
 public:
  ReceiveLane(ActionKind kind, const std::vector<Action>& actions, Stage& stage, Group& pipeline)
      : kind_(kind), actions_(actions), stage_(stage), pipeline_(pipeline) {}

  void StartNext() {
    if (!pipeline_.receives_early()) return;
    while (next_ < actions_.size() && actions_[next_].kind != kind_) ++next_;
    if (next_ == actions_.size()) return;
    const Action& action = actions_[next_++];
    started_ = stage_.NewActivation();
    pipeline_.StartReceive(started_, action.peer, action.tag);
  }

  Tensor Take(const Action& action) {
    const Tensor x = started_.defined() ? std::exchange(started_, {}) : stage_.NewActivation();
    pipeline_.Receive(x, action.peer, action.tag);
    StartNext();
    return x;
  }

 private:
  const ActionKind kind_;
  const std::vector<Action>& actions_;
  Stage& stage_;
  Group& pipeline_;
  size_t next_ = 0;  // after the receive that was started last
  Tensor started_;
};

}  // namespace

void RunSchedule(const std::vector<Action>& actions, Stage& stage, Group& pipeline,
                 const std::function<void(const Action&)>& before) {
  using Key = std::pair<int, int>;  // micro-batch, chunk
  // Tensors on their way from a receive to the action that uses them, and from an action to its send.
  std::map<Key, Tensor> activations, gradients, outputs, input_gradients;
  auto take = [](std::map<Key, Tensor>& from, Key key) {
    auto node = from.extract(key);
    return node.empty() ? Tensor() : std::move(node.mapped());
  };
  // The last message of each kind, whose tensor the group keeps.
  std::optional<Action> sent_activation, sent_gradient;
  auto send = [&](const Action& action, std::map<Key, Tensor>& from, std::optional<Action>& sent) {
    if (sent) pipeline.FinishSend(sent->peer, sent->tag);
    pipeline.Send(take(from, {action.micro_batch, action.chunk}), action.peer, action.tag);
    sent = action;
  };
  ReceiveLane received_activations(ActionKind::kReceiveActivation, actions, stage, pipeline);
  ReceiveLane received_gradients(ActionKind::kReceiveGradient, actions, stage, pipeline);
  for (size_t i = 0; i < actions.size(); ++i) {
    const Action& action = actions[i];
    if (before) before(action);
    if (i == 0) {
      received_activations.StartNext();
      received_gradients.StartNext();
    }
    const Key key(action.micro_batch, action.chunk);
    switch (action.kind) {
      case ActionKind::kReceiveActivation:
        activations[key] = received_activations.Take(action);
        break;
      case ActionKind::kReceiveGradient:
        gradients[key] = received_gradients.Take(action);
        break;
      case ActionKind::kSendActivation:
        send(action, outputs, sent_activation);
        break;
      case ActionKind::kSendGradient:
        send(action, input_gradients, sent_gradient);
        break;
      case ActionKind::kForward:
        outputs[key] = stage.Forward(action.micro_batch, action.chunk, take(activations, key));
        break;
      case ActionKind::kBackward:
        input_gradients[key] = stage.Backward(action.micro_batch, action.chunk, take(gradients, key));
        break;
      case ActionKind::kBackwardInput:
        input_gradients[key] = stage.BackwardInput(action.micro_batch, action.chunk, take(gradients, key));
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
