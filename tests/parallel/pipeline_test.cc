// RunSchedule against what SimulateSchedule assumes of it: which tensors are sent, received and given up, and in which
// order.
#include "parallel/pipeline/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "tests/parallel/fold_schedule.h"

namespace trefoil {
namespace {

// Writes down what a stage's list makes of it, in order. Elements of its tensors say what they are.
class Journal {
 public:
  void Add(const std::string& line) { lines_.push_back(line); }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::vector<std::string> lines_;
};

std::string Number(const Tensor& x) { return std::to_string(x.data<int32_t>()[0]); }
// Of what passes a boundary: two tensors, the second twice as long and with ten times the number.
std::string Numbers(const Tensors& xs) {
  if (xs.empty()) return "-";
  EXPECT_EQ(xs.size(), 2u);
  EXPECT_EQ(xs[1].elements(), 2 * xs[0].elements());
  EXPECT_EQ(xs[1].data<int32_t>()[1], 10 * xs[0].data<int32_t>()[0]);
  return Number(xs[0]);
}

class RecordingStage : public Stage {
 public:
  RecordingStage(Device& device, Journal& journal, const VirtualStages& virtual_stages, int stage)
      : device_(device), journal_(journal), virtual_stages_(virtual_stages), stage_(stage) {}
  // The further down the model, the longer the tensors.
  Tensors NewInput(int chunk) override { return Of(-1, Here(chunk)); }
  Tensors NewOutputGradient(int chunk) override { return Of(-1, Here(chunk) + 1); }
  Tensors Forward(int micro_batch, int chunk, const Tensors& input, bool divided) override {
    journal_.Add((divided ? "F'" : "F") + Name(micro_batch, chunk) + " of " + Numbers(input));
    return Here(chunk) == virtual_stages_.last() ? Tensors()
                                                 : Of(Activation(micro_batch, Here(chunk)), Here(chunk) + 1);
  }
  Tensors Backward(int micro_batch, int chunk, const Tensors& d_output) override {
    journal_.Add("B" + Name(micro_batch, chunk) + " of " + Numbers(d_output));
    return InputGradient(micro_batch, chunk);
  }
  Tensors BackwardInput(int micro_batch, int chunk, const Tensors& d_output) override {
    journal_.Add("I" + Name(micro_batch, chunk) + " of " + Numbers(d_output));
    return InputGradient(micro_batch, chunk);
  }
  void BackwardWeight(int micro_batch, int chunk) override { journal_.Add("W" + Name(micro_batch, chunk)); }

  // What a virtual stage makes of the micro-batch; its input's gradient is the negative.
  static int32_t Activation(int micro_batch, int virtual_stage) { return 1000 * (micro_batch + 1) + virtual_stage; }

 private:
  Tensors InputGradient(int micro_batch, int chunk) {
    return Here(chunk) == 0 ? Tensors() : Of(-Activation(micro_batch, Here(chunk)), Here(chunk));
  }
  int Here(int chunk) const { return virtual_stages_.Of(stage_, chunk); }
  static std::string Name(int micro_batch, int chunk) { return std::to_string(micro_batch) + "." + std::to_string(chunk); }
  // What passes the boundary before virtual stage `next`.
  Tensors Of(int32_t value, int next) {
    Tensors xs;
    for (const int times : {1, 2}) {
      const Tensor x = device_.Allocate(DType::kInt32, {times * next}, Purpose::kActivations);
      std::fill_n(x.data<int32_t>(), x.elements(), times == 1 ? value : 10 * value);
      xs.push_back(x);
    }
    return xs;
  }

  Device& device_;
  Journal& journal_;
  const VirtualStages virtual_stages_;
  const int stage_;
};

// Passes on to a real group, and writes down.
class RecordingGroup : public Group {
 public:
  RecordingGroup(Group& group, Journal& journal, bool early)
      : Group(group.membership()), group_(group), journal_(journal), early_(early) {}
  void Send(const Tensor& x, int to, int tag) override {
    journal_.Add("send " + Number(x) + " " + Lane(to, tag));
    group_.Send(x, to, tag);
  }
  void Receive(const Tensor& x, int from, int tag) override {
    group_.Receive(x, from, tag);
    journal_.Add("receive " + Number(x) + " " + Lane(from, tag));
  }
  bool receives_early() const override { return early_; }
  void StartReceive(const Tensor& x, int from, int tag) override {
    ++started_;
    group_.StartReceive(x, from, tag);
  }
  void FinishSend(int to, int tag) override {
    group_.FinishSend(to, tag);
    journal_.Add("finish " + Lane(to, tag));
  }
  void FinishSends() override {
    group_.FinishSends();
    journal_.Add("finish all");
  }
  int started() const { return started_; }

  void AllReduceSum(const Tensor&) override { FAIL(); }
  void ReduceScatterSum(const Tensor&, const Tensor&) override { FAIL(); }
  void AllGather(const Tensor&, const Tensor&) override { FAIL(); }
  void AllToAll(const Tensor&, const Tensor&) override { FAIL(); }
  void Broadcast(const Tensor&, int) override { FAIL(); }
  std::vector<double> SumAndGather(std::span<double>, std::span<const double>) override {
    ADD_FAILURE();
    return {};
  }
  void AllReduceMax(std::span<double>) override { FAIL(); }
  std::vector<std::string> GatherStrings(const std::string&) override { return {}; }
  std::string ReduceStrings(const std::string& text, const JoinOfTexts&) override { return text; }
  std::vector<RankText> ExchangeStrings(std::vector<RankText> texts) override { return texts; }
  std::string BroadcastString(const std::string&) override { return ""; }

 private:
  static std::string Lane(int peer, int tag) { return std::to_string(peer) + ":" + std::to_string(tag); }

  Group& group_;
  Journal& journal_;
  const bool early_;
  int started_ = 0;
};

// What SimulateSchedule takes a stage to do: a send waits until what it sent before of the same kind to the same stage
// is taken, a receive until its message is there, and at the end all is delivered.
std::vector<std::string> Expected(const std::vector<Action>& actions, const VirtualStages& virtual_stages, int stage) {
  std::vector<std::string> lines;
  const auto lane = [](const Action& a) { return std::to_string(a.peer) + ":" + std::to_string(a.tag); };
  const auto name = [](const Action& a) { return std::to_string(a.micro_batch) + "." + std::to_string(a.chunk); };
  std::map<std::pair<ActionKind, int>, const Action*> lasts;  // send of a kind to a stage
  for (size_t i = 0; i < actions.size(); ++i) {
    const Action& a = actions[i];
    const int virtual_stage = virtual_stages.Of(stage, a.chunk);
    const int32_t here = RecordingStage::Activation(a.micro_batch, virtual_stage);
    const std::string input = virtual_stage == 0 ? "-" : std::to_string(here - 1);
    const std::string d_output = virtual_stage == virtual_stages.last() ? "-" : std::to_string(-(here + 1));
    switch (a.kind) {
      case ActionKind::kForward:
        lines.push_back((a.divided ? "F'" : "F") + name(a) + " of " + input);
        break;
      case ActionKind::kBackward:
        lines.push_back("B" + name(a) + " of " + d_output);
        break;
      case ActionKind::kBackwardInput:
        lines.push_back("I" + name(a) + " of " + d_output);
        break;
      case ActionKind::kBackwardWeight:
        lines.push_back("W" + name(a));
        break;
      case ActionKind::kReceiveActivation:
        for (const char* times : {"", "0"}) lines.push_back("receive " + input + times + " " + lane(a));
        break;
      case ActionKind::kReceiveGradient:
        for (const char* times : {"", "0"}) lines.push_back("receive " + d_output + times + " " + lane(a));
        break;
      case ActionKind::kSendActivation:
      case ActionKind::kSendGradient: {
        const Action*& last = lasts[{a.kind, a.peer}];
        for (int i = 0; i < 2 && last != nullptr; ++i) lines.push_back("finish " + lane(*last));
        last = &a;
        for (const int times : {1, 10}) {
          const int32_t value = a.kind == ActionKind::kSendActivation ? here : -here;
          lines.push_back("send " + std::to_string(times * value) + " " + lane(a));
        }
        break;
      }
    }
  }
  lines.push_back("finish all");
  return lines;
}

struct Case {
  std::string name;
  VirtualStages virtual_stages;
  std::vector<std::vector<Action>> lists;  // by stage
};

Case Of(ParallelConfig::Schedule kind, int stages, int chunks, int micro_batches) {
  Case c = {ParallelConfig::Schedule_Name(kind), VirtualStages(kind, stages, chunks), {}};
  for (int s = 0; s < stages; ++s) c.lists.push_back(BuildSchedule(kind, stages, chunks, micro_batches, s));
  return c;
}

Case OfFold(int stages, int micro_batches, bool divided) {
  return {divided ? "divided fold" : "whole fold", FoldOf(stages), FoldSchedule(stages, micro_batches, divided)};
}

TEST(RunSchedule, DoesWhatTheSimulationAssumes) {
  const Case cases[] = {Of(ParallelConfig::GPIPE, 3, 1, 4),
                        Of(ParallelConfig::ONE_F_ONE_B, 1, 1, 3),
                        Of(ParallelConfig::ONE_F_ONE_B, 4, 1, 7),
                        Of(ParallelConfig::ONE_F_ONE_B, 3, 1, 1),
                        Of(ParallelConfig::INTERLEAVED, 2, 2, 4),
                        Of(ParallelConfig::INTERLEAVED, 3, 3, 6),
                        Of(ParallelConfig::INTERLEAVED, 1, 2, 3),
                        Of(ParallelConfig::ZB_H1, 4, 1, 6),
                        Of(ParallelConfig::ZB_H2, 3, 1, 7),
                        Of(ParallelConfig::ZB_V, 3, 2, 6),
                        Of(ParallelConfig::ZB_V, 4, 2, 7),
                        Of(ParallelConfig::DUALPIPE_V, 2, 2, 5),
                        Of(ParallelConfig::DUALPIPE_V, 4, 2, 9),
                        OfFold(1, 3, true),
                        OfFold(2, 5, false),
                        OfFold(2, 8, true),
                        OfFold(3, 8, true),
                        OfFold(4, 7, true)};
  for (const Case& c : cases) {
    for (const bool early : {false, true}) {
      const int stages = c.virtual_stages.stages();
      RunRanksAsThreads(
          stages,
          [&](World& world) {
            world.set_timeout_seconds(60);
            SCOPED_TRACE(c.name + ", stage " + std::to_string(world.rank()) + " of " + std::to_string(stages) +
                         (early ? ", early" : ""));
            const auto device = NewCpuDevice(1);
            const auto group = world.NewGroupOfAll(*device);
            Journal journal;
            RecordingStage stage(*device, journal, c.virtual_stages, world.rank());
            RecordingGroup recording(*group, journal, early);
            const std::vector<Action>& actions = c.lists[static_cast<size_t>(world.rank())];
            size_t shown = 0;
            RunSchedule(actions, stage, recording, [&](const Action& action) { EXPECT_EQ(action, actions.at(shown++)); });
            EXPECT_EQ(shown, actions.size());
            EXPECT_EQ(journal.lines(), Expected(actions, c.virtual_stages, world.rank()));
            int receives = 0;
            for (const Action& a : actions) {
              receives += a.kind == ActionKind::kReceiveActivation || a.kind == ActionKind::kReceiveGradient ? 1 : 0;
            }
            EXPECT_EQ(recording.started(), early ? 2 * receives : 0);
          },
          {.hosts = {}, .rendezvous = true});
    }
  }
}

// Whoever receives early has, besides what it computes on, tensors for one message of each kind to come into.
TEST(RunSchedule, ReceivesIntoOneTensorOfEachKindAhead) {
  constexpr int kStages = 3, kMicroBatches = 6;
  RunRanksAsThreads(kStages, [&](World& world) {
    std::map<bool, int64_t> peak;
    for (const bool early : {false, true}) {
      const auto device = NewCpuDevice(1);
      const auto group = world.NewGroupOfAll(*device);
      Journal journal;
      RecordingStage stage(*device, journal, VirtualStages(ParallelConfig::ONE_F_ONE_B, kStages, 1), world.rank());
      RecordingGroup recording(*group, journal, early);
      RunSchedule(BuildSchedule(ParallelConfig::ONE_F_ONE_B, kStages, 1, kMicroBatches, world.rank()), stage, recording);
      peak[early] = device->memory().peak[static_cast<size_t>(Purpose::kActivations)];
    }
    const auto one = NewCpuDevice(1);
    (void)one->Allocate(DType::kInt32, {1}, Purpose::kActivations);
    const int64_t bytes = one->memory().peak[static_cast<size_t>(Purpose::kActivations)];
    EXPECT_GT(peak[true], peak[false]);
    EXPECT_LE(peak[true], peak[false] + 2 * 2 * bytes) << "two kinds of two tensors";
  });
}

// Two micro-batches whose tensor the stage writes into again before it is given up: what a rendezvous delivers is seen to
// be wrong, which a copy at Send hides. So the mode tells such programs apart.
TEST(Rendezvous, SeesATensorThatIsChangedUnderWay) {
  for (const bool rendezvous : {false, true}) {
    RunRanksAsThreads(
        2,
        [&](World& world) {
          const auto device = NewCpuDevice(1);
          const auto group = world.NewGroupOfAll(*device);
          const Tensor x = device->Allocate(DType::kInt32, {1}, Purpose::kActivations);
          x.data<int32_t>()[0] = 1;
          if (world.rank() == 0) {
            group->Send(x, 1, 0);
            x.data<int32_t>()[0] = 2;  // wrong: it is under way
          }
          world.all().Barrier();
          if (world.rank() == 1) {
            group->Receive(x, 0, 0);
            EXPECT_EQ(x.data<int32_t>()[0], rendezvous ? 2 : 1);
          }
          group->FinishSends();
        },
        {.hosts = {}, .rendezvous = rendezvous});
  }
}

// A list that sends twice before its receiver takes the first: done at once where sends are copied, for ever otherwise.
TEST(RendezvousDeathTest, SeesAScheduleThatHangsOnFinishSend) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto run = [](bool rendezvous) {
    RunRanksAsThreads(
        2,
        [](World& world) {
          world.set_timeout_seconds(0.5);
          const auto device = NewCpuDevice(1);
          const auto group = world.NewGroupOfAll(*device);
          const Tensor x = device->Allocate(DType::kInt32, {1}, Purpose::kActivations);
          const Tensor y = device->Allocate(DType::kInt32, {1}, Purpose::kActivations);
          const int other = 1 - world.rank();
          group->Send(x, other, 0);
          group->FinishSend(other, 0);
          group->Receive(y, other, 0);
        },
        {.hosts = {}, .rendezvous = rendezvous});
  };
  run(false);
  EXPECT_DEATH(run(true), "waited 0.5 s in Send of 4 bytes with tag 0 for rank . on localhost, which did not come");
}

}  // namespace
}  // namespace trefoil
