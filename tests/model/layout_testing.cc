#include "tests/model/layout_testing.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <utility>

#include "training/optimizer/learning_rate.h"

namespace trefoil {
namespace {

// What all ranks together hold, put together under a lock.
class Collector {
 public:
  void Add(Worker& worker) {
    std::lock_guard lock(mutex_);
    using Elements = ParameterStore::Elements;
    for (int i = 0; i < worker.store.state_parts(); ++i) {
      const auto owned = worker.store.State(i, Elements::kOwned), held = worker.store.State(i, Elements::kHeld);
      for (const ShardedTensor& slice : owned.slices) AddSlice(slice, &owned_, &owners_);
      for (const ShardedTensor& slice : held.slices) AddSlice(slice, &all_, nullptr);
    }
    for (const BucketMemory& memory : worker.store.buckets()) {
      for (const BucketEntry& entry : memory.bucket.entries) {
        if (memory.split_weights) continue;  // what is kept of them is in the state
        const Tensor weight = memory.weights.Range(entry.begin, entry.box.extent);
        std::string bits(static_cast<size_t>(weight.bytes()), 0);
        worker.device.Download(weight, bits.data());
        const std::string name = entry.parameter->name + entry.box.offset.ToString() + entry.box.extent.ToString();
        const auto [copy, is_new] = working_.emplace(name, bits);
        if (!is_new && copy->second != bits) different_.push_back("working " + name);
      }
    }
  }

  GlobalState Take() {
    for (const auto& [name, counts] : owners_) {
      EXPECT_EQ(std::count(counts.begin(), counts.end(), 1), static_cast<int64_t>(counts.size()))
          << name << ": each element must have one owner";
    }
    EXPECT_TRUE(different_.empty()) << different_.size() << " copies differ, such as of " << different_.front();
    return std::move(owned_);
  }

 private:
  using Counts = std::map<std::string, std::vector<int>>;

  void AddSlice(const ShardedTensor& slice, GlobalState* state, Counts* counts) {
    std::vector<float>& values = (*state)[slice.name];
    values.resize(static_cast<size_t>(slice.global.elements()), NAN);
    if (counts != nullptr) (*counts)[slice.name].resize(values.size());
    const bool matrix = slice.global.rank() == 2;
    const int64_t columns = matrix ? slice.global[1] : 1, width = matrix ? slice.box.extent[1] : 1;
    const int64_t left = matrix ? slice.box.offset[1] : 0;
    for (int64_t i = 0; i < slice.box.extent.elements(); ++i) {
      float value;
      std::memcpy(&value, slice.data + i * 4, 4);
      float& element = values[static_cast<size_t>((slice.box.offset[0] + i / width) * columns + left + i % width)];
      if (counts != nullptr) {
        ++(*counts)[slice.name][static_cast<size_t>(&element - values.data())];
      } else if (!std::isnan(element) && std::memcmp(&element, &value, 4) != 0) {
        different_.push_back(slice.name);
      }
      element = value;
    }
  }

  std::mutex mutex_;
  GlobalState owned_, all_;
  Counts owners_;
  std::map<std::string, std::string> working_;  // bits, by parameter and box
  std::vector<std::string> different_;
};

// Root mean square of a - b.
double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  Values difference;
  for (size_t i = 0; i < a.size(); ++i) difference.push_back(double{a[i]} - b.at(i));
  return RootMeanSquare(difference);
}

// (a . b) / (b . b): 1 if a is b, whatever is added to it that has nothing to do with b.
double Projection(const std::vector<float>& a, const Values& b) {
  double mixed = 0, square = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    mixed += a.at(i) * b[i];
    square += b[i] * b[i];
  }
  return mixed / square;
}

double Relative(double value, double reference) {
  const double difference = std::abs(value / reference - 1);
  return std::isnan(difference) ? HUGE_VAL : difference;
}

}  // namespace

Trace Train(const RunConfig& config, int steps, const BatchSource& given, const NewWorker& new_worker) {
  const auto ranks = static_cast<size_t>(RanksOf(config));
  std::vector<Trace> traces(ranks);
  Collector initial, first, last;
  WithWorkers(config, [&](Worker& worker) {
    Trace& trace = traces[static_cast<size_t>(worker.mesh.rank())];
    const BatchSource source = given.get ? given : LearnableTokens(config.model());
    const TrainingConfig& training = config.training();
    initial.Add(worker);
    for (int step = 1; step <= steps; ++step) {
      const int64_t first_sample = int64_t{step - 1} * training.global_batch();
      const double rate = LearningRate(training.optimizer(), training.steps(), step);
      const auto result = TrainStep(worker, source, step, first_sample, rate);
      CHECK(result.ok()) << result.status();
      trace.losses.push_back(result->loss);
      trace.norms.push_back(result->gradient_norm);
      if (step == 1) first.Add(worker);
    }
    last.Add(worker);
    const auto held_out = Evaluate(worker, source, 2 * training.global_batch());
    CHECK(held_out.ok()) << held_out.status();
    trace.held_out = held_out->loss;
  }, new_worker);
  for (const Trace& trace : traces) {
    EXPECT_EQ(trace.losses, traces[0].losses) << "ranks are told different losses";
    EXPECT_EQ(trace.norms, traces[0].norms) << "ranks are told different norms";
    EXPECT_EQ(trace.held_out, traces[0].held_out);
  }
  Trace trace = std::move(traces[0]);
  trace.initial = initial.Take();
  trace.first = first.Take();
  trace.last = last.Take();
  return trace;
}

Deviation Compare(const Trace& trace, const Trace& reference, double noise) {
  Deviation worst;
  for (size_t i = 0; i < reference.losses.size(); ++i) {
    worst.loss = std::max(worst.loss, Relative(trace.losses.at(i), reference.losses[i]));
    worst.norm = std::max(worst.norm, Relative(trace.norms.at(i), reference.norms[i]));
  }
  worst.loss = std::max(worst.loss, Relative(trace.held_out, reference.held_out));
  const auto gradient = [&](const std::string& name) {
    const size_t slash = name.find('/');
    const std::string parameter = slash == std::string::npos ? name : name.substr(slash + 1);
    const auto m = reference.first.find("adam.m/" + parameter);
    if (m == reference.first.end()) return 0.0;  // it is not trained
    return RootMeanSquare(Values(m->second.begin(), m->second.end()));
  };
  double largest = 0;
  for (const auto& [name, values] : reference.last) largest = std::max(largest, gradient(name));
  for (const auto& [name, values] : reference.last) {
    if (gradient(name) < noise * largest) continue;
    const double moved = Distance(values, reference.initial.at(name));
    const double apart = Distance(trace.last.at(name), values);
    if (apart > worst.state * moved) worst.state = moved > 0 ? apart / moved : HUGE_VAL;
  }
  return worst;
}

void ExpectSameRun(const Trace& trace, const Trace& reference, const Tolerances& tolerances) {
  const Deviation worst = Compare(trace, reference, tolerances.noise);
  EXPECT_LE(worst.loss, tolerances.loss);
  EXPECT_LE(worst.norm, tolerances.norm);
  EXPECT_LE(worst.state, tolerances.state);
  EXPECT_EQ(trace.last.size(), reference.last.size());
  EXPECT_TRUE(trace.initial == reference.initial) << "initial weights depend on the layout";
  ASSERT_EQ(trace.first.size(), reference.first.size());
  std::map<std::string, Values> gradients;
  double squares = 0, elements = 0;
  for (const auto& [name, values] : reference.first) {
    if (!name.starts_with("adam.m/")) continue;
    Values& gradient = gradients[name] = Values(values.begin(), values.end());
    squares += std::pow(RootMeanSquare(gradient), 2) * static_cast<double>(gradient.size());
    elements += static_cast<double>(gradient.size());
  }
  EXPECT_FALSE(gradients.empty());
  const double floor = 0.1 * std::sqrt(squares / elements);
  double largest = 0;
  for (const auto& [name, gradient] : gradients) largest = std::max(largest, RootMeanSquare(gradient));
  for (const auto& [name, gradient] : gradients) {
    const std::vector<float>& values = trace.first.at(name);
    if (RootMeanSquare(gradient) >= tolerances.noise * largest) {
      EXPECT_NEAR(Projection(values, gradient), 1, tolerances.projection) << name;
    }
    ExpectClose(Values(values.begin(), values.end()), gradient, tolerances.gradient, name, floor);
  }
}

}  // namespace trefoil
