#include "tests/model/golden_testing.h"

#include <google/protobuf/text_format.h>

#include <cmath>

#include "training/optimizer/learning_rate.h"

namespace trefoil {
namespace {

// What a fixture has of its task's batches.
struct GoldenTensor {
  const char* name;
  HostTensor Batch::*tensor;
  DType dtype = DType::kInt32;
};
const GoldenTensor kTensors[] = {{"inputs", &Batch::inputs},
                                 {"lengths", &Batch::lengths},
                                 {"segments", &Batch::segments},
                                 {"decoder_inputs", &Batch::decoder_inputs},
                                 {"patches", &Batch::patches, DType::kFloat32},
                                 {"patch_places", &Batch::patch_places},
                                 {"targets", &Batch::targets},
                                 {"values", &Batch::values, DType::kFloat32},
                                 {"places", &Batch::places},
                                 {"weights", &Batch::weights, DType::kFloat32}};

// Rows [first, first + count) of an array, in the outermost dim.
template <typename T>
HostTensor Rows(const Fixture::Array& array, int64_t first, int64_t count) {
  Shape shape = array.shape;
  const int64_t of_row = shape.elements() / shape[0];
  CHECK_LE(first + count, shape[0]);
  shape[0] = count;
  const auto begin = array.values.begin() + first * of_row;
  return HostTensor(std::vector<T>(begin, begin + count * of_row), shape);
}

}  // namespace

RunConfig GoldenConfig(const Fixture& golden, const std::string& more) {
  RunConfig config;
  CHECK(google::protobuf::TextFormat::ParseFromString(golden.metadata("run"), &config));
  CHECK(google::protobuf::TextFormat::MergeFromString("training { precision: FP32 } " + more, &config)) << more;
  return Completed(config);
}

Gradients FirstGradients(const RunConfig& config, const BatchSource& source, Values* losses) {
  Gradients gradients;
  WithWorkers(config, [&](Worker& worker) {
    AddGradients(worker, source);
    gradients = GradientsOf(worker);
    if (losses == nullptr) return;
    for (const Tensor& loss : worker.transformer.Losses()) {
      for (const double value : Get(worker.device, loss)) losses->push_back(value);
    }
  });
  return gradients;
}

Gradients GradientsOf(Worker& worker) {
  Gradients gradients;
  for (const Parameter& parameter : worker.table.all()) {
    gradients[parameter.name] = Get(worker.device, worker.store.Gradient({parameter.name}));
  }
  return gradients;
}

Gradients GoldenGradients(const Fixture& golden) {
  Gradients gradients;
  for (const std::string& name : golden.NamesUnder("gradient/")) {
    gradients[name] = golden.Get("gradient/" + name).values;
  }
  return gradients;
}

double Norm(const Gradients& gradients) {
  double sum = 0;
  for (const auto& [name, values] : gradients) {
    for (const double value : values) sum += value * value;
  }
  return std::sqrt(sum);
}

double RootMeanSquareOf(const Gradients& gradients) {
  size_t n = 0;
  for (const auto& [name, values] : gradients) n += values.size();
  return Norm(gradients) / std::sqrt(static_cast<double>(n));
}

void ExpectSameInitialWeights(const RunConfig& config, const Fixture& golden) {
  WithWorkers(config, [&](Worker& worker) {
    const std::vector<std::string> names = golden.NamesUnder("initial/");
    EXPECT_EQ(worker.table.all().size(), names.size());
    for (const Parameter& parameter : worker.table.all()) {
      EXPECT_TRUE(golden.Has("initial/" + parameter.name)) << "the fixture has no " << parameter.name;
    }
    if (testing::Test::HasFailure()) return;
    for (const std::string& name : names) {
      const Tensor weight = worker.store.Weight({name});
      EXPECT_EQ(weight.shape(), golden.Get("gradient/" + name).shape) << name;
      const Values sample = Sampled(Get(worker.device, weight));
      const Values& reference = golden.Get("initial/" + name).values;
      ASSERT_EQ(sample.size(), reference.size());
      for (size_t i = 0; i < sample.size(); ++i) {
        EXPECT_NEAR(sample[i], reference[i], 1e-6) << name << "[" << i << "]";
      }
    }
  });
}

void ExpectSameGradients(const Gradients& gradients, const Gradients& reference, double tolerance) {
  ASSERT_EQ(gradients.size(), reference.size());
  const double floor = 0.1 * RootMeanSquareOf(reference);
  for (const auto& [name, values] : reference) ExpectClose(gradients.at(name), values, tolerance, name, floor);
}

void ExpectSameDropout(const RunConfig& config, const BatchSource& source, const Fixture& golden, const Values& losses,
                       double tolerance) {
  Values found;
  const Gradients gradients = FirstGradients(config, source, &found);
  ExpectClose(found, losses, 2e-6, "loss");
  EXPECT_NEAR(Norm(gradients) / golden.Get("dropout_norm").values[0], 1, 1e-6);
  const double floor = 0.1 * RootMeanSquareOf(gradients);
  for (const auto& [name, values] : gradients) {
    ExpectClose(Sampled(values), golden.Get("dropout_gradient/" + name).values, tolerance, name, floor);
  }
}

void ExpectSameTraining(const RunConfig& config, const BatchSource& source, const Fixture& golden) {
  WithWorkers(config, [&](Worker& worker) {
    const Values &losses = golden.Get("losses").values, &norms = golden.Get("norms").values;
    const TrainingConfig& training = worker.config.training();
    for (int64_t step = 1; step <= training.steps(); ++step) {
      const double rate = LearningRate(training.optimizer(), training.steps(), step);
      const auto result = TrainStep(worker, source, step, (step - 1) * training.global_batch(), rate);
      ASSERT_TRUE(result.ok()) << result.status();
      const auto i = static_cast<size_t>(step - 1);
      EXPECT_NEAR(result->loss / losses[i], 1, 1e-5) << "step " << step;
      EXPECT_NEAR(result->gradient_norm / norms[i], 1, 1e-4) << "step " << step;
    }
    for (const std::string& name : golden.NamesUnder("final/")) {
      const Values sample = Sampled(Get(worker.device, worker.store.Weight({name})));
      // Softmax does not see a key's bias: its gradient is rounding, which Adam makes larger.
      const double floor = name.ends_with(".k.bias") ? 4 : 0.05;
      ExpectClose(sample, golden.Get("final/" + name).values, 1e-4, name, floor);
    }
  });
}

void ExpectRecomputationChangesNothing(const RunConfig& config, const BatchSource& source) {
  const Gradients saved = FirstGradients(config, source);
  for (const ParallelConfig::Recompute mode : {ParallelConfig::SELECTIVE, ParallelConfig::FULL}) {
    RunConfig recomputing = config;
    recomputing.mutable_parallel()->set_recompute(mode);
    const Gradients gradients = FirstGradients(recomputing, source);
    for (const auto& [name, values] : saved) {
      EXPECT_TRUE(gradients.at(name) == values) << ParallelConfig::Recompute_Name(mode) << ": " << name;
    }
  }
}

BatchSource GoldenBatches(const Fixture& golden, double factor) {
  if (golden.Has("tokens")) {  // of running text, of which each token is the target of the one before
    const Shape shape = golden.Get("tokens").shape;
    return [ids = golden.Ids("tokens"), row = shape[2]](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
      std::vector<int32_t> inputs, targets;
      for (auto sample = ids.begin() + first * row; sample != ids.begin() + (first + count) * row; sample += row) {
        inputs.insert(inputs.end(), sample, sample + row - 1);
        targets.insert(targets.end(), sample + 1, sample + row);
      }
      return MakeBatch(row - 1, first, std::move(inputs), std::move(targets));
    };
  }
  const auto get = [&golden, factor](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
    Batch batch = {.samples = count, .first_sample = first};
    for (const GoldenTensor& tensor : kTensors) {
      if (!golden.Has(tensor.name)) continue;
      const Fixture::Array& array = golden.Get(tensor.name);
      batch.*tensor.tensor =
          tensor.dtype == DType::kInt32 ? Rows<int32_t>(array, first, count) : Rows<float>(array, first, count);
    }
    batch.length = (batch.patches.defined() ? batch.patches : batch.inputs).shape()[1];
    if (batch.weights.defined()) {
      for (float& weight : batch.weights.values<float>()) weight = static_cast<float>(weight * factor);
    }
    return batch;
  };
  return BatchSource(get, /*weighted=*/golden.Has("weights"));
}

}  // namespace trefoil
