#include "planner/stage_profile.h"

#include <glog/logging.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>

#include "parallel/axes.h"
#include "training/config/micro_batches.h"
#include "training/saving/state_snapshot.h"
#include "training/step.h"

namespace trefoil {
namespace {

using Place = StageProfile::Place;

Place PlaceOf(int micro_batch, int micro_batches) {
  if (micro_batches == 1) return Place::kOnly;
  if (micro_batch == 0) return Place::kFirst;
  return micro_batch == micro_batches - 1 ? Place::kLast : Place::kMiddle;
}

// Those micro-batches alone, which are in order, numbered from 0.
std::vector<Action> OfMicroBatches(const std::vector<Action>& actions, const std::vector<int>& kept) {
  std::vector<Action> of_kept;
  for (Action action : actions) {
    const auto found = std::lower_bound(kept.begin(), kept.end(), action.micro_batch);
    if (found == kept.end() || *found != action.micro_batch) continue;
    action.micro_batch = static_cast<int>(found - kept.begin());
    of_kept.push_back(action);
  }
  return of_kept;
}

// By micro-batch, which chunks have their backward in two.
std::vector<std::string> WaysOf(const std::vector<Action>& actions, int micro_batches) {
  std::vector<std::string> ways(static_cast<size_t>(micro_batches));
  for (const Action& action : actions) {
    if (action.kind != ActionKind::kForward) continue;
    // In order of chunks, as forwards are.
    ways[static_cast<size_t>(action.micro_batch)] += action.divided ? '2' : '1';
  }
  return ways;
}

// The micro-batches that a profile has: of a list in which all go one way the first three, which are a first, one between
// and a last in the order that they have in all of it. Else the first, the first of each way between, the last. What is
// sent is given up when the next is, and may be kept by the stage too: so that this comes in its order, each of those
// between is there with the one behind it, and the last with the one before.
std::vector<int> Representatives(const std::vector<Action>& actions, int micro_batches) {
  const std::vector<std::string> ways = WaysOf(actions, micro_batches);
  const int last = micro_batches - 1;
  if (std::count(ways.begin(), ways.end(), ways.front()) == micro_batches) {
    std::vector<int> first(static_cast<size_t>(std::min(micro_batches, 3)));
    std::iota(first.begin(), first.end(), 0);
    return first;
  }
  std::set<int> kept = {0, std::max(0, last - 1), last};
  std::set<std::string_view> seen;
  for (int i = 1; i < last; ++i) {
    if (seen.insert(ways[static_cast<size_t>(i)]).second) kept.insert({i, i + 1});
  }
  return {kept.begin(), kept.end()};
}

// Adds what a device, its arena and its groups do to the part that is current.
class Recorder {
 public:
  Recorder(TimeModel& time, PartCost* part) : time_(time), part_(part) {}

  void SetPart(PartCost* part) {
    part_ = part;
    arrivals_.clear();
  }
  // From here on, what is done is a task beside the main thread's work, or no longer.
  void SetTask(bool begins) {
    beside_ = begins && time_.cluster().gpu();
    if (beside_) part_->beside.push_back({.start = part_->seconds});
  }
  void Use() { part_->uses.push_back(part_->seconds); }
  // From here on, what is done is a gather that costs this; null: no longer.
  void SetGather(StageProfile::GatherCost* gather) { gather_ = gather; }

  void Memory(Purpose purpose, int64_t bytes, bool dedicated) {
    MemoryTracks& memory = part_->memory;
    memory.purposes[static_cast<size_t>(purpose)].Add(bytes);
    memory.total.Add(bytes);
    (dedicated ? memory.dedicated : memory.sizes[std::abs(bytes)]).Add(bytes);
  }

  void Op(const OpCount& count) {
    const double seconds = time_.OpSeconds(count);
    part_->ops[count.op].Add({.calls = 1, .flops = count.flops, .bytes = count.bytes, .seconds = seconds});
    Spend(seconds);
  }

  void Call(const GroupCall& call) {
    const std::string_view operation = call.operation;
    const bool message = operation == "Send" || operation == "Receive";
    const bool round = message && call.group == EntryOf(Axis::kContext).name;
    if (operation == "Receive" && !round) part_->received += call.bytes;
    // Messages of the pipeline take the time that the simulation of the schedule gives them.
    double seconds = message ? 0 : time_.CollectiveSeconds(call.exchanges, call.members, call.bytes);
    if (round) seconds = RoundSeconds(call, operation == "Receive");
    if (call.members.size() > 1) {
      const OpTotal total = {.calls = 1, .bytes = TimeModel::BytesSent(call.exchanges, call.bytes), .seconds = seconds};
      if (gather_ != nullptr) {
        *gather_ = {.group = call.group, .total = total};
        return;
      }
      part_->sent[call.group].Add(total);
    }
    Spend(seconds);
  }

 private:
  // What a message round a ring holds this rank up: all ranks send at the same time, and receive in the order of their
  // sends. On GPUs it moves beside the rest until it is waited for; on CPUs it takes the same cores.
  double RoundSeconds(const GroupCall& call, bool receive) {
    if (receive) {
      if (arrivals_.empty()) return 0;
      const double waits = std::max(0.0, arrivals_.front() - part_->seconds);
      arrivals_.pop_front();
      return waits;
    }
    double seconds = 0;
    for (size_t i = 0; i < call.members.size(); ++i) {
      const int from = call.members[i], to = call.members[(i + 1) % call.members.size()];
      seconds = std::max(seconds, time_.MessageSeconds(from, to, call.bytes));
    }
    if (!time_.cluster().gpu()) return seconds;
    const double begin = std::max(part_->seconds, arrivals_.empty() ? 0.0 : arrivals_.back());
    arrivals_.push_back(begin + seconds);
    return 0;
  }

  void Spend(double seconds) { (beside_ ? part_->beside.back().seconds : part_->seconds) += seconds; }

  TimeModel& time_;
  PartCost* part_;
  bool beside_ = false;
  StageProfile::GatherCost* gather_ = nullptr;
  std::deque<double> arrivals_;  // of messages on their way round, in seconds of the part
};

void Apply(const Track& track, int64_t& current, int64_t& peak) {
  peak = std::max(peak, current + track.peak);
  current += track.net;
}

// Memory along a sequence of parts.
class Fold {
 public:
  // Once more what `tracks` did.
  void Add(const MemoryTracks& tracks) {
    for (size_t i = 0; i < kPurposes; ++i) Apply(tracks.purposes[i], use_.current[i], use_.peak[i]);
    Apply(tracks.total, use_.current_total, use_.peak_total);
    for (const auto& [size, track] : tracks.sizes) {
      auto& [current, peak] = sizes_[size];
      Apply(track, current, peak);
    }
    dedicated_ += tracks.dedicated.net;
  }
  int64_t current_total() const { return use_.current_total; }
  MemoryUse use() const {
    MemoryUse use = use_;
    use.reserved = dedicated_;
    for (const auto& [size, bytes] : sizes_) use.reserved += bytes.second;
    return use;
  }

 private:
  MemoryUse use_;
  std::map<int64_t, std::pair<int64_t, int64_t>> sizes_;  // current, peak
  int64_t dedicated_ = 0;
};

// A steady step's start, for another number of micro-batches than was profiled: it gives back as much for each.
MemoryTracks StartOf(const StageProfile& profile, int micro_batches) {
  MemoryTracks start = profile.steady.start.memory;
  const auto scale = [&](Track& track) { track.net = track.net / profile.micro_batches * micro_batches; };
  for (Track& track : start.purposes) scale(track);
  scale(start.total);
  for (auto& [size, track] : start.sizes) scale(track);
  return start;
}

void FoldStep(const StageProfile& profile, const StageProfile::Step& step, const std::vector<Action>& actions,
              int micro_batches, Fold* fold, std::vector<MemoryPoint>* points = nullptr) {
  fold->Add(&step == &profile.steady ? StartOf(profile, micro_batches) : step.start.memory);
  fold->Add(step.constants.memory);
  for (const Action& action : actions) {
    const MemoryTracks& memory = profile.CostOf(step, action, micro_batches).memory;
    if (points != nullptr) points->push_back({.most = fold->current_total() + memory.total.peak});
    fold->Add(memory);
    if (points != nullptr) points->back().after = fold->current_total();
  }
  fold->Add(step.reduce.memory);
  fold->Add(step.update.memory);
}

}  // namespace

void OpTotal::Add(const OpTotal& other, double times) {
  calls += static_cast<int64_t>(static_cast<double>(other.calls) * times);
  flops += other.flops * times;
  bytes += other.bytes * times;
  seconds += other.seconds * times;
}

StageProfile::Key StageProfile::KeyOf(const Action& action, int micro_batches) {
  return {action.kind, action.chunk, PlaceOf(action.micro_batch, micro_batches), action.divided};
}

const PartCost& StageProfile::CostOf(const Step& step, const Action& action, int micro_batches) const {
  const auto found = step.actions.find(KeyOf(action, micro_batches));
  CHECK(found != step.actions.end()) << "no cost of " << ToString({action});
  return found->second;
}

std::vector<Gather> StageProfile::GathersOf(const std::vector<Action>& actions) const {
  if (slots.kinds.empty()) return {};
  std::vector<int> modules;
  for (const Action& action : actions) {
    const auto found = modules_used.find({action.kind, action.chunk});
    if (found != modules_used.end()) modules.insert(modules.end(), found->second.begin(), found->second.end());
  }
  return ListGathers(modules, buckets, slots);
}

std::vector<Action> OfFewMicroBatches(const std::vector<Action>& actions, int micro_batches, int few) {
  CHECK_GE(few, 1);
  if (micro_batches <= few) return actions;
  std::vector<Action> of_few;
  std::copy_if(actions.begin(), actions.end(), std::back_inserter(of_few),
               [few](const Action& action) { return action.micro_batch < few; });
  return of_few;
}

std::string ProfiledText(const std::vector<Action>& actions, int micro_batches) {
  const std::vector<int> kept = Representatives(actions, micro_batches);
  std::string text;
  for (const std::string& way : WaysOf(OfMicroBatches(actions, kept), static_cast<int>(kept.size()))) {
    text += way + " ";
  }
  return text;
}

StageProfile ProfileStage(const RunConfig& run, const std::vector<Action>& actions, int ranks, int rank,
                          TimeModel& time) {
  RunConfig config = run;
  const int micro_batches = MicroBatchesPerStep(config);
  StageProfile profile;
  const std::vector<int> kept = Representatives(actions, micro_batches);
  profile.micro_batches = static_cast<int>(kept.size());
  SetMicroBatchesPerStep(profile.micro_batches, &config);

  PartCost build;
  Recorder recorder(time, &build);
  const bool gpu = time.cluster().gpu() || config.runtime().device() == RuntimeConfig::CUDA;
  const std::unique_ptr<Device> device =
      NewNullDevice({.stands_for = gpu ? NullDeviceOptions::StandsFor::kCuda : NullDeviceOptions::StandsFor::kCpu,
                     .threads = gpu ? 1 : time.devices_per_rank(),
                     .bf16_products = Bf16ProductsOf(config.runtime())});
  device->arena().Observe(
      [&](Purpose purpose, int64_t bytes, bool dedicated) { recorder.Memory(purpose, bytes, dedicated); });
  device->Observe([&](const OpCount& count, std::chrono::steady_clock::time_point) { recorder.Op(count); });
  const std::unique_ptr<World> world =
      NewNullWorld(ranks, rank, [&](const GroupCall& call) { recorder.Call(call); },
                   gpu ? StandsFor::kNccl : StandsFor::kMessages);
  PartCost end;  // outlives the worker
  {
    Worker worker(config, *world, *device, VirtualStages(config.parallel()),
                  OfMicroBatches(actions, kept));
    std::optional<StateSnapshot> snapshot;
    if (SavesInBackground(run.training())) snapshot.emplace(worker.store, *device);
    worker.store.Initialize(config.training().seed(), worker.groups);
    profile.build = build.memory;
    profile.slots = worker.gatherer.slots();
    for (Bucket bucket : worker.gatherer.buckets()) {
      bucket.entries.clear();  // they refer to the worker's table
      profile.buckets.push_back(std::move(bucket));
    }
    for (const Action& action : worker.actions) {
      std::vector<int> modules = worker.transformer.ModulesUsed({action});
      if (!modules.empty()) profile.modules_used[{action.kind, action.chunk}] = std::move(modules);
    }
    worker.queue.observer = [&](bool begins) { recorder.SetTask(begins); };
    worker.gatherer.observer = {
        .use = [&](int) { recorder.Use(); },
        .gather = [&](size_t bucket, bool begins) { recorder.SetGather(begins ? &profile.gathers[bucket] : nullptr); }};
    StageProfile::Step* step = &profile.first;
    PartCost again;  // what has been seen
    worker.observer = [&](StepPart part, const Action* action) {
      switch (part) {
        case StepPart::kConstants:
          return recorder.SetPart(&step->constants);
        case StepPart::kAction: {
          const auto [found, is_new] =
              step->actions.try_emplace(StageProfile::KeyOf(*action, profile.micro_batches));
          return recorder.SetPart(is_new ? &found->second : &again);
        }
        case StepPart::kReduce:
          return recorder.SetPart(&step->reduce);
        case StepPart::kUpdate:
          return recorder.SetPart(&step->update);
      }
    };
    const BatchSource source = ZerosSource(config);
    for (const int64_t number : {1, 2}) {
      step = number == 1 ? &profile.first : &profile.steady;
      recorder.SetPart(&step->start);
      CHECK(TrainStep(worker, source, number, 0, 0).ok());
    }
    recorder.SetPart(&end);
    profile.compiled = device->memory().compiled;
    profile.host = device->memory().host;
  }
  device->arena().Observe(nullptr);
  return profile;
}

MemoryUse FoldMemory(const StageProfile& profile, const std::vector<Action>& actions, int micro_batches) {
  Fold fold;
  fold.Add(profile.build);
  for (const StageProfile::Step* step : {&profile.first, &profile.steady}) {
    FoldStep(profile, *step, actions, micro_batches, &fold);
  }
  MemoryUse use = fold.use();
  use.compiled = profile.compiled;
  use.host = profile.host;
  return use;
}

std::vector<MemoryPoint> MemoryOverActions(const StageProfile& profile, const std::vector<Action>& actions,
                                           int micro_batches) {
  Fold fold;
  fold.Add(profile.build);
  FoldStep(profile, profile.first, actions, micro_batches, &fold);
  std::vector<MemoryPoint> points;
  FoldStep(profile, profile.steady, actions, micro_batches, &fold, &points);
  return points;
}

}  // namespace trefoil
