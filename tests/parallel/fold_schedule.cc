#include "tests/parallel/fold_schedule.h"

#include <glog/logging.h>

#include <deque>

namespace trefoil {
namespace {

class Fold {
 public:
  Fold(int stages, int micro_batches, bool divided)
      : virtual_stages_(FoldOf(stages)),
        divided_(divided),
        micro_batches_(micro_batches),
        forwards_(static_cast<size_t>(virtual_stages_.size())),
        backwards_(forwards_),
        waiting_(static_cast<size_t>(stages)),
        lists_(waiting_.size()) {}

  std::vector<std::vector<Action>> Build() {
    size_t done = 0, all = static_cast<size_t>((divided_ ? 3 : 2) * micro_batches_ * virtual_stages_.size());
    while (done < all) {
      // All stages look at what was done before this unit.
      forwards_before_ = forwards_;
      backwards_before_ = backwards_;
      const size_t before = done;
      for (int stage = 0; stage < virtual_stages_.stages(); ++stage) done += DoOne(stage) ? 1 : 0;
      CHECK_GT(done, before) << "no stage can do anything";
    }
    std::vector<std::vector<Action>> with_messages;
    for (size_t s = 0; s < lists_.size(); ++s) {
      with_messages.push_back(WithMessages(lists_[s], virtual_stages_, static_cast<int>(s)));
    }
    return with_messages;
  }

 private:
  bool DoOne(int stage) {
    std::vector<Action>& list = lists_[static_cast<size_t>(stage)];
    int held = 0;
    for (const int chunk : {0, 1}) {
      const size_t v = Of(stage, chunk);
      held += forwards_[v] - backwards_[v];
    }
    for (const int chunk : {1, 0}) {
      const size_t v = Of(stage, chunk);
      const int next = backwards_[v];
      const int ready = v + 1 == forwards_.size() ? forwards_before_[v] : backwards_before_[v + 1];
      if (next >= std::min(ready, forwards_before_[v])) continue;
      ++backwards_[v];
      Action action = {.kind = ActionKind::kBackward, .micro_batch = next, .chunk = chunk};
      if (divided_) {
        action.kind = ActionKind::kBackwardWeight;
        waiting_[static_cast<size_t>(stage)].push_back(action);
        action.kind = ActionKind::kBackwardInput;
      }
      list.push_back(action);
      return true;
    }
    for (const int chunk : {1, 0}) {
      const size_t v = Of(stage, chunk);
      const int next = forwards_[v];
      const int ready = v == 0 ? micro_batches_ : forwards_before_[v - 1];
      // The second chunk's are on the way to their backwards: no limit may hold them up.
      if (next >= ready || (chunk == 0 && held >= 2 * virtual_stages_.stages())) continue;
      ++forwards_[v];
      list.push_back({.kind = ActionKind::kForward, .micro_batch = next, .chunk = chunk});
      return true;
    }
    auto& waiting = waiting_[static_cast<size_t>(stage)];
    if (waiting.empty()) return false;
    list.push_back(waiting.front());
    waiting.pop_front();
    return true;
  }

  size_t Of(int stage, int chunk) const { return static_cast<size_t>(virtual_stages_.Of(stage, chunk)); }

  const VirtualStages virtual_stages_;
  const bool divided_;
  const int micro_batches_;
  std::vector<int> forwards_, backwards_;  // done, by virtual stage: a micro-batch after the other
  std::vector<int> forwards_before_, backwards_before_;
  std::vector<std::deque<Action>> waiting_;
  std::vector<std::vector<Action>> lists_;
};

}  // namespace

VirtualStages FoldOf(int stages) { return VirtualStages(VirtualStages::Order::kFold, stages, 2); }

std::vector<std::vector<Action>> FoldSchedule(int stages, int micro_batches, bool divided) {
  return Fold(stages, micro_batches, divided).Build();
}

}  // namespace trefoil
