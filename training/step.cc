#include "training/step.h"

#include <cmath>

#include "parallel/pipeline.h"
#include "runtime/ops.h"
#include "training/optimizer.h"

namespace trefoil {
namespace {

Tensor UploadIds(Device& device, const std::vector<int32_t>& ids) {
  const Tensor tensor =
      device.Allocate(DType::kInt32, {static_cast<int64_t>(ids.size())}, Purpose::kActivations);
  device.Upload(ids.data(), tensor);
  return tensor;
}

// This rank's micro-batches: `count` of them, from sample `first` of the source on.
absl::StatusOr<std::vector<MicroBatch>> ReadMicroBatches(Worker& worker, const BatchSource& source, int64_t first,
                                                         int count, bool training) {
  const int64_t samples = worker.config.training().micro_batch();
  const int64_t tokens = worker.config.model().sequence_length();
  std::vector<int32_t> positions(static_cast<size_t>(samples * tokens));
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i) % static_cast<int32_t>(tokens);
  const Tensor position_ids = UploadIds(worker.device, positions);
  const auto global_tokens = static_cast<double>(worker.config.training().global_batch() * tokens);
  std::vector<MicroBatch> micro_batches;
  for (int i = 0; i < count; ++i) {
    TREFOIL_ASSIGN_OR_RETURN(const Batch batch, source(first + i * samples, samples));
    CHECK_EQ(batch.length, tokens);
    micro_batches.push_back({.samples = samples,
                             .tokens = tokens,
                             .first_sample = first + i * samples,
                             .ids = UploadIds(worker.device, batch.inputs),
                             .targets = UploadIds(worker.device, batch.targets),
                             .positions = position_ids,
                             .training = training,
                             .loss_scale = static_cast<float>(1 / global_tokens)});
  }
  return micro_batches;
}

// Over all ranks: the sum of all tokens' losses, and of the squares of `gradients`. Every rank gets them. The one place
// of a step where the host waits for the device.
TwoSums TotalSums(Worker& worker, std::span<const Tensor> gradients) {
  const bool has_losses = worker.last_stage() && worker.tensor->rank() == 0;
  const TwoSums mine =
      Sums(worker.device, has_losses ? std::span(worker.transformer.Losses()) : std::span<const Tensor>(), gradients);
  double sums[] = {mine.sum, mine.sum_of_squares};
  worker.all->AllReduceSum(sums);
  return {.sum = sums[0], .sum_of_squares = sums[1]};
}

}  // namespace

BatchSource ZerosSource(int64_t length) {
  return [length](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
    const std::vector<int32_t> zeros(static_cast<size_t>(count * length));
    return Batch{.samples = count, .length = length, .first_sample = first, .inputs = zeros, .targets = zeros};
  };
}

absl::StatusOr<StepResult> TrainStep(Worker& worker, const BatchSource& source, int64_t step, int64_t first_sample,
                                     double learning_rate) {
  const TrainingConfig& training = worker.config.training();
  const int64_t share = training.global_batch() / worker.mesh.size(Axis::kData);
  const int64_t first = first_sample + share * worker.mesh.index(Axis::kData);
  auto micro_batches = ReadMicroBatches(worker, source, first, worker.micro_batches(), /*training=*/true);
  TREFOIL_RETURN_IF_ERROR(worker.all->Agree(micro_batches.status()));
  worker.transformer.Begin(*std::move(micro_batches));
  RunSchedule(worker.actions, worker.transformer, *worker.pipeline);
  worker.reducer.Finish();

  const TwoSums sums = TotalSums(worker, OwnedGradients(worker.store));
  const int64_t tokens = training.global_batch() * int64_t{worker.config.model().sequence_length()};
  const StepResult result = {.loss = sums.sum / static_cast<double>(tokens),
                             .gradient_norm = std::sqrt(sums.sum_of_squares)};
  if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
    const bool loss = !std::isfinite(result.loss);
    return absl::DataLossError("step " + std::to_string(step) + ": the " + (loss ? "loss" : "gradient norm") + " is " +
                               std::to_string(loss ? result.loss : result.gradient_norm) +
                               ", must be finite; the parameters were not updated. A lower "
                               "training.optimizer.learning_rate or a longer warmup_steps usually helps");
  }
  UpdateParameters(worker.store, worker.device, worker.reducer, training.optimizer(), learning_rate, step,
                   result.gradient_norm);
  return result;
}

absl::StatusOr<double> Evaluate(Worker& worker, const BatchSource& source, int64_t batches) {
  CHECK_GE(batches, 1);
  const int64_t global_batch = worker.config.training().global_batch();
  const int64_t share = global_batch / worker.mesh.size(Axis::kData);
  const std::vector<Action> forward = ForwardOnly(worker.actions);
  double sum = 0;
  for (int64_t i = 0; i < batches; ++i) {
    const int64_t first = i * global_batch + share * worker.mesh.index(Axis::kData);
    auto micro_batches = ReadMicroBatches(worker, source, first, worker.micro_batches(), /*training=*/false);
    TREFOIL_RETURN_IF_ERROR(worker.all->Agree(micro_batches.status()));
    worker.transformer.Begin(*std::move(micro_batches));
    RunSchedule(forward, worker.transformer, *worker.pipeline);
    sum += TotalSums(worker, {}).sum;
  }
  return sum / static_cast<double>(batches * global_batch * worker.config.model().sequence_length());
}

}  // namespace trefoil
