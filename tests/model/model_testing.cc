#include "tests/model/model_testing.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel/pipeline/pipeline.h"
#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"
#include "training/config/validate.h"
#include "training/upload.h"

namespace trefoil {
namespace {

constexpr char kTiny[] = R"(
  model { layers: 3 hidden: 32 heads: 4 head_dim: 8 feed_forward: 48 vocabulary: 61 sequence_length: 8
          initial_deviation: 0.08 }
  training { steps: 20 global_batch: 8 precision: FP32 seed: 99
             optimizer { learning_rate: 1e-3 warmup_steps: 2 } }
)";

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15;
  return x ^ (x >> 29);
}

}  // namespace

RunConfig TinyRun(ModelConfig::Family family, const std::string& more) {
  RunConfig config;
  CHECK(google::protobuf::TextFormat::ParseFromString(kTiny, &config));
  config.mutable_model()->set_family(family);
  if (family == ModelConfig::LLAMA) config.mutable_model()->set_kv_heads(2);
  CHECK(google::protobuf::TextFormat::MergeFromString(more, &config)) << more;
  return Completed(config);
}

RunConfig Completed(RunConfig config) {
  config.set_folder("unused");
  config.mutable_data()->add_train("unused");
  const int ranks = RanksOf(config);
  FillDefaults(&config, ranks, {});
  for (const std::string& line : Violations(config, ranks)) LOG(FATAL) << line;
  return config;
}

int RanksOf(const RunConfig& config) {
  int ranks = 1;
  for (const AxisEntry& axis : Axes()) ranks *= std::max(1, (config.parallel().*axis.size)());
  return ranks;
}

std::string Describe(const RunConfig& config) {
  const ParallelConfig& p = config.parallel();
  std::string text = ModelConfig::Family_Name(config.model().family());
  text += " t" + std::to_string(p.tensor()) + " p" + std::to_string(p.pipeline()) + " d" + std::to_string(p.data());
  if (p.context() > 1) {
    text += " c" + std::to_string(p.context()) + " " + ParallelConfig::ContextMethod_Name(p.context_method());
  }
  if (p.sequence_parallel()) text += " sp";
  text += " " + ParallelConfig::Schedule_Name(p.schedule());
  if (p.zero() > ParallelConfig::NONE) text += " zero" + std::to_string(p.zero() - ParallelConfig::NONE);
  if (p.recompute() != ParallelConfig::NOTHING) text += " recompute " + ParallelConfig::Recompute_Name(p.recompute());
  if (config.model().dropout() > 0) text += " dropout";
  if (config.training().precision() == TrainingConfig::BF16) text += " bf16";
  if (config.training().precision() == TrainingConfig::FP8) text += " fp8";
  return text + " layers " + std::to_string(config.model().layers());
}

BatchSource LearnableTokens(const ModelConfig& config) {
  const int64_t length = config.sequence_length();
  const auto vocabulary = static_cast<uint64_t>(config.vocabulary());
  return [=](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
    std::vector<int32_t> inputs, targets;
    for (int64_t sample = first; sample < first + count; ++sample) {
      uint64_t token = Mix(static_cast<uint64_t>(sample) + 1) % vocabulary;
      for (int64_t t = 0; t < length; ++t) {
        const uint64_t random = Mix(static_cast<uint64_t>(sample * length + t) + 12345);
        inputs.push_back(static_cast<int32_t>(token));
        token = random % 5 == 0 ? random / 5 % vocabulary : (token * 5 + 3) % 7 * (vocabulary / 7);
        targets.push_back(static_cast<int32_t>(token));
      }
    }
    return MakeBatch(length, first, std::move(inputs), std::move(targets));
  };
}

Batch MakeBatch(int64_t length, int64_t first_sample, std::vector<int32_t> inputs, std::vector<int32_t> targets) {
  const int64_t samples = static_cast<int64_t>(inputs.size()) / length;
  return {.samples = samples,
          .length = length,
          .first_sample = first_sample,
          .inputs = {std::move(inputs), {samples, length}},
          .targets = {std::move(targets), {samples, length}}};
}

void WithWorkers(const RunConfig& config, const std::function<void(Worker&)>& body, const NewWorker& new_worker) {
  RunRanksAsThreads(RanksOf(config), [&](World& threads) {
    const TestWorld world(threads);
    const std::unique_ptr<Device> device = NewTestDevice();
    const std::unique_ptr<Worker> worker =
        new_worker ? new_worker(config, *world, *device) : std::make_unique<Worker>(config, *world, *device);
    worker->store.Initialize(config.training().seed(), worker->groups);
    body(*worker);
  }, TestThreads());
}

MicroBatch MakeMicroBatch(Device& device, const Batch& batch, bool training, float loss_scale) {
  const auto upload = [&](const HostTensor& host) {
    if (!host.defined()) return Tensor();
    const Tensor x = device.Allocate(host.dtype(), {host.shape().elements()}, Purpose::kActivations);
    device.Upload(host.data(), x);
    return x;
  };
  HostTensor positions = HostTensor::Zeros(DType::kInt32, {batch.samples, batch.length});
  for (int64_t i = 0; i < batch.samples * batch.length; ++i) {
    positions.values<int32_t>()[i] = static_cast<int32_t>(i % batch.length);
  }
  return {.samples = batch.samples,
          .first_sample = batch.first_sample,
          .training = training,
          .loss_scale = loss_scale,
          .input = {.tokens = batch.length,
                    .length = batch.length,
                    .ids = upload(batch.inputs),
                    .positions = upload(positions)},
          .targets_of_sample = batch.length,
          .targets = upload(batch.targets),
          .weights = upload(batch.weights)};
}

void AddGradients(Worker& worker, const BatchSource& source) {
  const TrainingConfig& training = worker.config.training();
  const int64_t size = training.micro_batch();
  const int64_t share = training.global_batch() / worker.mesh.size(Axis::kData);
  const Constants constants = UploadConstants(ReaderOf(worker));
  std::vector<MicroBatch> micro_batches;
  for (int64_t i = 0; i < worker.micro_batches(); ++i) {
    const auto batch = source(share * worker.mesh.index(Axis::kData) + i * size, size);
    CHECK(batch.ok());
    micro_batches.push_back(UploadMicroBatch(ReaderOf(worker), *batch, constants, /*training=*/true));
  }
  worker.transformer.Begin(std::move(micro_batches));
  worker.gatherer.Begin(worker.transformer.ModulesUsed(worker.actions));
  RunSchedule(worker.actions, worker.transformer, *worker.pipeline);
  worker.reducer.Finish();
}

Values Get(Device& device, const Tensor& x) {
  if (x.dtype() == DType::kBFloat16) {
    const Tensor wide = device.Allocate(DType::kFloat32, x.shape(), Purpose::kActivations);
    Cast(device, x, wide);
    return Get(device, wide);
  }
  std::vector<float> host(static_cast<size_t>(x.elements()));
  device.Download(x, host.data());
  return Values(host.begin(), host.end());
}

void Set(Device& device, const Tensor& x, const Values& values) {
  CHECK_EQ(static_cast<size_t>(x.elements()), values.size());
  const std::vector<float> host(values.begin(), values.end());
  device.Upload(host.data(), x);
}

double RootMeanSquare(const Values& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return values.empty() ? 0 : std::sqrt(sum / static_cast<double>(values.size()));
}

void ExpectClose(const Values& values, const Values& reference, double tolerance, const std::string& what,
                 double floor) {
  ASSERT_EQ(values.size(), reference.size()) << what;
  const double scale = std::max(RootMeanSquare(reference), floor);
  size_t worst = 0;
  double worst_error = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double difference = std::abs(values[i] - reference[i]);
    double error = difference == 0 ? 0 : difference / (tolerance * (std::abs(reference[i]) + scale));
    if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
    if (error > worst_error) {
      worst_error = error;
      worst = i;
    }
  }
  EXPECT_LE(worst_error, 1) << what << "[" << worst << "] of " << values.size() << " is " << values[worst]
                            << ", must be " << reference[worst] << "; error in units of the tolerance " << tolerance;
}

}  // namespace trefoil
