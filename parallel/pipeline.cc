#include "parallel/pipeline.h"

#include <map>
#include <optional>
#include <utility>

namespace trefoil {

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
  for (size_t i = 0; i < actions.size(); ++i) {
    const Action& action = actions[i];
    if (before) before(action);
    const Key key(action.micro_batch, action.chunk);
    switch (action.kind) {
      case ActionKind::kReceiveActivation:
      case ActionKind::kReceiveGradient: {
        const Tensor x = stage.NewActivation();
        pipeline.Receive(x, action.peer, action.tag);
        (action.kind == ActionKind::kReceiveActivation ? activations : gradients)[key] = x;
        break;
      }
      case ActionKind::kSendActivation:
        send(action, outputs, sent_activation);
        break;
      case ActionKind::kSendGradient:
        send(action, input_gradients, sent_gradient);
        break;
      case ActionKind::kForward:
        outputs[key] = stage.Forward(action.micro_batch, action.chunk, take(activations, key));
        break;
      case ActionKind::kBackwardInput: {
        // Weight gradients that come right after are added on the way, while their operands are in cache.
        const bool weights_too = i + 1 < actions.size() && actions[i + 1].kind == ActionKind::kBackwardWeight &&
                                 Key(actions[i + 1].micro_batch, actions[i + 1].chunk) == key;
        input_gradients[key] =
            stage.BackwardInput(action.micro_batch, action.chunk, take(gradients, key), weights_too);
        break;
      }
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
