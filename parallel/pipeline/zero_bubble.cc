#include "parallel/pipeline/zero_bubble.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

namespace trefoil {
namespace {

// A list in the making. Micro-batches of each kind and chunk come in order.
class Computations {
 public:
  explicit Computations(int micro_batches) : micro_batches_(micro_batches) {}

  void F(int chunk = 0) { Add(ActionKind::kForward, chunk, forwards_[chunk]++); }
  void B(int chunk) { Add(ActionKind::kBackward, chunk, backwards_[chunk]++); }
  void I(int chunk = 0) {
    waiting_.push_back({.kind = ActionKind::kBackwardWeight, .micro_batch = backwards_[chunk], .chunk = chunk});
    Add(ActionKind::kBackwardInput, chunk, backwards_[chunk]++);
  }
  // The weights that wait longest, of any chunk or of one.
  void W() { TakeWeights(waiting_.begin()); }
  void W(int chunk) {
    TakeWeights(std::find_if(waiting_.begin(), waiting_.end(), [=](const Action& w) { return w.chunk == chunk; }));
  }
  bool ForwardsLeft(int chunk = 0) const { return forwards_[chunk] < micro_batches_; }
  int backwards() const { return backwards_[0]; }

  std::vector<Action> Take() {
    CHECK(waiting_.empty() && !ForwardsLeft() && backwards_[0] == micro_batches_);
    return std::move(actions_);
  }

 private:
  void Add(ActionKind kind, int chunk, int micro_batch) {
    CHECK_LT(micro_batch, micro_batches_);
    actions_.push_back({.kind = kind, .micro_batch = micro_batch, .chunk = chunk});
  }
  void TakeWeights(std::deque<Action>::iterator weights) {
    CHECK(weights != waiting_.end());
    actions_.push_back(*weights);
    waiting_.erase(weights);
  }

  const int micro_batches_;
  std::array<int, 2> forwards_ = {}, backwards_ = {};  // by chunk
  std::deque<Action> waiting_;
  std::vector<Action> actions_;
};

// `warm_up` forwards, then by turns; weights wait until `delay` later inputs are done.
std::vector<Action> Handcrafted(int micro_batches, int warm_up, int delay) {
  Computations list(micro_batches);
  for (int i = 0; i < std::min(warm_up, micro_batches); ++i) list.F();
  while (list.backwards() < micro_batches) {
    list.I();
    if (list.backwards() > delay) list.W();
    if (list.ForwardsLeft()) list.F();
  }
  for (int i = 0; i < std::min(delay, micro_batches); ++i) list.W();
  return list.Take();
}

}  // namespace

std::vector<Action> ZbH1(int stages, int /*chunks*/, int micro_batches, int stage) {
  return Handcrafted(micro_batches, stages - stage, stage);
}

std::vector<Action> ZbH2(int stages, int /*chunks*/, int micro_batches, int stage) {
  return Handcrafted(micro_batches, 2 * (stages - stage) - 1, 2 * stage);
}

std::vector<Action> ZbV(int stages, int /*chunks*/, int micro_batches, int stage) {
  Computations list(micro_batches);
  const int behind = stages - stage;
  for (int i = 0; i < 2 * behind - 1; ++i) list.F(0);
  for (int i = 0; i < stage; ++i) {
    list.F(1);
    list.F(0);
  }
  for (int i = 0; i < behind; ++i) {
    list.F(1);
    list.I(1);
    list.W(1);
  }
  while (list.ForwardsLeft(1)) {
    if (list.ForwardsLeft(0)) list.F(0);
    list.I(0);
    list.W(0);
    list.F(1);
    list.I(1);
    list.W(1);
  }
  for (int i = 0; i < stage; ++i) {
    list.I(0);
    list.I(1);
  }
  for (int i = 0; i < behind; ++i) {
    list.I(0);
    list.W(0);
  }
  for (const int chunk : {1, 0}) {
    for (int i = 0; i < stage; ++i) list.W(chunk);
  }
  return list.Take();
}

std::vector<Action> DualPipeV(int stages, int /*chunks*/, int micro_batches, int stage) {
  Computations list(micro_batches);
  const int behind = stages - stage - 1;
  for (int i = 0; i < 2 * behind; ++i) list.F(0);
  for (int i = 0; i < stage + 1; ++i) {
    list.F(0);
    list.F(1);
  }
  for (int i = 0; i < behind; ++i) {
    list.I(1);
    list.W(1);
    list.F(1);
  }
  while (list.ForwardsLeft(0)) {
    list.F(0);
    list.B(1);
    list.F(1);
    list.B(0);
  }
  for (int i = 0; i < behind; ++i) {
    list.B(1);
    list.F(1);
    list.B(0);
  }
  // So many are whole: of each pair the first, then the second.
  const int whole = stage + 1;
  for (int i = 0; i < 2 * (stage + 1); ++i) {
    const int chunk = 1 - i % 2;
    i < whole ? list.B(chunk) : list.I(chunk);
  }
  for (int i = 0; i < behind; ++i) {
    list.W();
    list.I(0);
  }
  for (int i = 0; i < stage + 1; ++i) list.W();
  return list.Take();
}

}  // namespace trefoil
