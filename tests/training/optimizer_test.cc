// The update of parameters against AdamW written out in double, element by element of the global tensors; however state is
// cut over data and tensor ranks.
#include "training/optimizer/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>

#include "parallel/collectives/world.h"
#include "runtime/ops.h"
#include "tests/parallel/example_table.h"
#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"

namespace trefoil {
namespace {

constexpr uint64_t kSeed = 5;
constexpr int kSteps = 5;

// Matrices decay, vectors do not.
ParameterTable Table() {
  const ParameterTable example = ExampleTable();
  ParameterTable table;
  for (Parameter parameter : example.all()) {
    parameter.decay = parameter.shape.rank() == 2;
    table.Add(parameter);
  }
  return table;
}

// Of many magnitudes, and of both signs.
float Gradient(const std::string& name, size_t global, int step) {
  const double x = std::sin(static_cast<double>(name.size() * 131 + global * 17) + step * 1.3);
  return static_cast<float>(x * std::pow(10.0, static_cast<double>(global % 5) - 2));
}

OptimizerConfig Config(float clip_norm) {
  OptimizerConfig config;
  config.set_beta1(0.9f);
  config.set_beta2(0.95f);
  config.set_epsilon(1e-8f);
  config.set_weight_decay(0.1f);
  config.set_clip_norm(clip_norm);
  return config;
}

double LearningRateOf(int step) { return 0.01 / step; }

// Global elements by name: of master weights, and of moments under "adam.m/" and "adam.v/".
template <typename T>
using State = std::map<std::string, std::vector<T>>;

// After each step.
struct Trajectory {
  std::vector<State<float>> states;  // [0]: before the first
  std::vector<double> norms;         // of the step's gradient
};

struct Layout {
  int tensor, data;
  bool split_optimizer;
  DType working = DType::kFloat32;
};

void Collect(ParameterStore& store, State<float>* state) {
  for (int i = 0; i < store.state_parts(); ++i) {
    const ParameterStore::StatePart part = store.State(i, ParameterStore::Elements::kHeld);
    for (const ShardedTensor& slice : part.slices) {
      std::vector<float>& values = (*state)[slice.name];
      values.resize(static_cast<size_t>(slice.global.elements()), NAN);
      const auto* local_values = reinterpret_cast<const float*>(slice.data);
      ForEachElement(slice.global, slice.box, [&](size_t global, size_t local) {
        if (!std::isnan(values[global])) {
          EXPECT_EQ(values[global], local_values[local]) << slice.name << " has copies that differ";
        }
        values[global] = local_values[local];
      });
    }
  }
}

void SetGradients(ParameterStore& store, Device& device, int step) {
  for (BucketMemory& memory : store.buckets()) {
    for (const BucketEntry& entry : memory.bucket.entries) {
      std::vector<float> values(static_cast<size_t>(entry.box.extent.elements()));
      ForEachElement(entry.parameter->shape, entry.box, [&](size_t global, size_t local) {
        values[local] = Gradient(entry.parameter->name, global, step);
      });
      device.Upload(values.data(), memory.gradients.Range(entry.begin, {entry.box.extent.elements()}));
    }
  }
}

// Working weights are the master's, rounded, on every rank and not in its own shard only.
void ExpectWorkingWeights(ParameterStore& store, Device& device, const State<float>& state) {
  for (BucketMemory& memory : store.buckets()) {
    for (const BucketEntry& entry : memory.bucket.entries) {
      const Tensor working = memory.weights.Range(entry.begin, {entry.box.extent.elements()});
      const Tensor wide = device.Allocate(DType::kFloat32, working.shape(), Purpose::kWeights);
      Cast(device, working, wide);
      std::vector<float> values(static_cast<size_t>(wide.elements()));
      device.Download(wide, values.data());
      const float most = working.dtype() == DType::kBFloat16 ? 1.0f / 256 : 0;
      ForEachElement(entry.parameter->shape, entry.box, [&](size_t global, size_t local) {
        const float master = state.at(entry.parameter->name)[global];
        EXPECT_LE(std::abs(values[local] - master), most * std::abs(master)) << entry.parameter->name << " " << global;
      });
    }
  }
}

// Steps on the gradients of a layout's every rank, as they are when they have been added up.
Trajectory Train(const Layout& layout, const OptimizerConfig& config) {
  const ParameterTable table = Table();
  const MeshSizes sizes = {{Axis::kTensor, layout.tensor}, {Axis::kData, layout.data}};
  Trajectory trajectory;
  trajectory.states.resize(kSteps + 1);
  trajectory.norms.resize(kSteps + 1);
  std::mutex mutex;
  RunRanksAsThreads(sizes.ranks(), [&](World& threads) {
    threads.set_timeout_seconds(60);
    const TestWorld world(threads);
    const auto device = NewTestDevice();
    const Mesh mesh(sizes, world->rank());
    const std::vector<int> modules = {0, 1, 2, 3};
    const AxisGroups groups(*world, mesh, *device, {Axis::kData});
    const std::unique_ptr<Optimizer> optimizer = NewOptimizer(config);
    ParameterStore store(
        table, mesh, modules, *device,
        {.working = layout.working, .optimizer = optimizer->layout(), .split_optimizer = layout.split_optimizer});
    const TiedGroups tied(*world, mesh, *device, table, std::vector<int>(modules.size()));
    TaskQueue queue(*device, world->all().membership().patience, /*threaded=*/true);
    GradientReducer reducer(store, *device, queue, modules, {.groups = groups, .tied = tied});
    store.Initialize(kSeed, groups);
    const auto collect = [&](int step) {
      {
        const std::lock_guard lock(mutex);
        Collect(store, &trajectory.states[static_cast<size_t>(step)]);
      }
      world->all().Barrier();  // all ranks' are there
      const std::lock_guard lock(mutex);
      ExpectWorkingWeights(store, *device, trajectory.states[static_cast<size_t>(step)]);
    };
    collect(0);
    for (int step = 1; step <= kSteps; ++step) {
      SetGradients(store, *device, step);
      ExactSum squares = Sums(*device, {}, OwnedGradients(store)).sum_of_squares;
      world->all().AllReduceSum(squares.limbs());
      const double norm = std::sqrt(squares.value());
      if (world->rank() == 0) trajectory.norms[static_cast<size_t>(step)] = norm;
      UpdateParameters(store, *device, reducer, *optimizer,
                       {.learning_rate = LearningRateOf(step),
                        .number = step,
                        .gradient_scale = ClippingScale(config, norm)});
      for (const BucketMemory& memory : store.buckets()) {
        EXPECT_EQ(SumOfSquares(*device, memory.gradients), 0) << "gradients are zero after the step";
      }
      collect(step);
    }
  });
  return trajectory;
}

// Loshchilov & Hutter 2019, algorithm 2, in double from the same initial weights.
struct Reference {
  Reference(const ParameterTable& table, const State<float>& initial) : table(table) {
    for (const Parameter& parameter : table.all()) {
      const std::vector<float>& values = initial.at(parameter.name);
      weights[parameter.name].assign(values.begin(), values.end());
      m[parameter.name].resize(values.size());
      v[parameter.name].resize(values.size());
      m_summands[parameter.name].resize(values.size());
    }
  }
  double Norm(int step) const {
    double squares = 0;
    for (const auto& [name, values] : weights) {
      for (size_t i = 0; i < values.size(); ++i) squares += std::pow(double{Gradient(name, i, step)}, 2);
    }
    return std::sqrt(squares);
  }
  void Step(int step, const OptimizerConfig& config) {
    const double norm = Norm(step), rate = LearningRateOf(step);
    const double scale = config.clip_norm() > 0 ? std::min(1.0, config.clip_norm() / norm) : 1.0;
    const double beta1 = config.beta1(), beta2 = config.beta2();
    for (const Parameter& parameter : table.all()) {
      std::vector<double>& w = weights[parameter.name];
      for (size_t i = 0; i < w.size(); ++i) {
        const double g = Gradient(parameter.name, i, step) * scale;
        double &mi = m[parameter.name][i], &vi = v[parameter.name][i];
        mi = beta1 * mi + (1 - beta1) * g;
        double& summands = m_summands[parameter.name][i];
        summands = beta1 * summands + (1 - beta1) * std::abs(g);
        vi = beta2 * vi + (1 - beta2) * g * g;
        const double adam = mi / (1 - std::pow(beta1, step)) / (std::sqrt(vi / (1 - std::pow(beta2, step))) + config.epsilon());
        w[i] -= rate * (adam + (parameter.shape.rank() == 2 ? double{config.weight_decay()} : 0) * w[i]);
      }
    }
  }
  const ParameterTable& table;
  State<double> weights, m, v;
  State<double> m_summands;  // what m would be if nothing cancelled
};

// To within `relative` of sizes[i].
void ExpectNear(const std::vector<float>& got, const std::vector<double>& expected, const std::vector<double>& sizes,
                double relative, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], relative * std::abs(sizes[i])) << what << " element " << i;
  }
}

// Gradients whose norm is about 1400, without clipping, clipped to a thousandth, and with a limit that is never met.
constexpr float kClips[] = {0, 1, 1e6};

TEST(UpdateParameters, IsAdamWInDouble) {
  const ParameterTable table = Table();
  for (const float clip : kClips) {
    const OptimizerConfig config = Config(clip);
    const Trajectory trajectory = Train({.tensor = 1, .data = 1, .split_optimizer = true}, config);
    Reference reference(table, trajectory.states[0]);
    for (int step = 1; step <= kSteps; ++step) {
      EXPECT_NEAR(trajectory.norms[static_cast<size_t>(step)], reference.Norm(step), 1e-6 * reference.Norm(step));
      reference.Step(step, config);
      const State<float>& state = trajectory.states[static_cast<size_t>(step)];
      for (const Parameter& parameter : table.all()) {
        const std::string& name = parameter.name;
        const std::string at = name + ", step " + std::to_string(step) + ", clip " + std::to_string(clip);
        // Of weights near 0 a step moves the larger part.
        std::vector<double> sizes = reference.weights[name];
        for (double& size : sizes) size = std::abs(size) + LearningRateOf(1);
        ExpectNear(state.at(name), reference.weights[name], sizes, 1e-6, "weight of " + at);
        ExpectNear(state.at("adam.m/" + name), reference.m[name], reference.m_summands[name], 1e-6, "m of " + at);
        ExpectNear(state.at("adam.v/" + name), reference.v[name], reference.v[name], 1e-6, "v of " + at);
      }
    }
  }
}

// An element's update looks at nothing but the element, so its bits are the same wherever it lies.
TEST(UpdateParameters, PiecesAreUpdatedAsTheWholeIs) {
  for (const DType working : {DType::kFloat32, DType::kBFloat16}) {
    const OptimizerConfig config = Config(1);  // clipped by the norm, which is the same on all layouts
    const Trajectory whole = Train({.tensor = 1, .data = 1, .split_optimizer = false, .working = working}, config);
    for (const Layout& layout : {Layout{1, 2, true}, Layout{1, 4, true}, Layout{1, 4, false}, Layout{2, 2, true},
                                 Layout{2, 1, true}, Layout{3, 2, true}}) {
      SCOPED_TRACE(testing::Message() << "tensor " << layout.tensor << ", data " << layout.data << ", split "
                                      << layout.split_optimizer);
      Layout cut = layout;
      cut.working = working;
      const Trajectory pieces = Train(cut, config);
      for (int step = 0; step <= kSteps; ++step) {
        const auto at = static_cast<size_t>(step);
        EXPECT_EQ(pieces.states[at], whole.states[at]) << "step " << step;
        EXPECT_EQ(pieces.norms[at], whole.norms[at]) << "step " << step;
      }
    }
  }
}

}  // namespace
}  // namespace trefoil
