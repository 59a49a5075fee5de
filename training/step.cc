#include "training/step.h"

#include <cmath>

#include "parallel/pipeline.h"
#include "runtime/ops.h"
#include "training/optimizer.h"

namespace trefoil {
namespace {

// This rank's micro-batches of a step on the host, from sample `first` of the source on.
absl::StatusOr<std::vector<Batch>> ReadBatches(const Worker& worker, const BatchSource& source, int64_t first) {
  const int64_t samples = worker.config.training().micro_batch();
  std::vector<Batch> batches;
  for (int i = 0; i < worker.micro_batches(); ++i) {
    TREFOIL_ASSIGN_OR_RETURN(batches.emplace_back(), source(first + i * samples, samples));
    CHECK_EQ(batches.back().length, worker.config.model().sequence_length());
  }
  return batches;
}

Tensor UploadIds(Device& device, const std::vector<int32_t>& ids) {
  const Tensor tensor = device.Allocate(DType::kInt32, {static_cast<int64_t>(ids.size())}, Purpose::kActivations);
  device.Upload(ids.data(), tensor);
  return tensor;
}

// Row modulo the sequence length, for one micro-batch.
Tensor UploadPositions(const Worker& worker) {
  const int32_t tokens = worker.config.model().sequence_length();
  std::vector<int32_t> positions(static_cast<size_t>(worker.config.training().micro_batch()) * tokens);
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i) % tokens;
  return UploadIds(worker.device, positions);
}

MicroBatch UploadMicroBatch(const Worker& worker, const Batch& batch, const Tensor& positions, bool training) {
  const auto global_tokens = static_cast<double>(worker.config.training().global_batch() * batch.length);
  return {.samples = batch.samples,
          .tokens = batch.length,
          .first_sample = batch.first_sample,
          .ids = UploadIds(worker.device, batch.inputs),
          .targets = UploadIds(worker.device, batch.targets),
          .positions = positions,
          .training = training,
          .loss_scale = static_cast<float>(1 / global_tokens)};
}

void Tell(const Worker& worker, StepPart part, const Action* action = nullptr) {
  if (worker.observer) worker.observer(part, action);
}

// Runs `actions` on the batches and returns each one's losses; undefined on stages without the head.
std::vector<Tensor> RunBatches(Worker& worker, const std::vector<Batch>& batches, const std::vector<Action>& actions,
                               bool training) {
  worker.transformer.Begin({});  // gives back what is left of the step before: every step takes what the first takes
  const Tensor positions = UploadPositions(worker);
  std::vector<MicroBatch> micro_batches;
  for (const Batch& batch : batches) {
    Tell(worker, StepPart::kUpload);
    micro_batches.push_back(UploadMicroBatch(worker, batch, positions, training));
  }
  worker.transformer.Begin(std::move(micro_batches));
  RunSchedule(actions, worker.transformer, *worker.pipeline,
              [&](const Action& action) { Tell(worker, StepPart::kAction, &action); });
  return worker.transformer.Losses();
}

// Without a recording where the device makes none.
RecordedMicroBatch Record(Worker& worker, const Batch& example) {
  worker.transformer.Begin({});  // gives back what is left of the step before
  RecordedMicroBatch recorded;
  recorded.input = UploadMicroBatch(worker, example, UploadPositions(worker), /*training=*/true);
  const std::vector<Action> actions =
      BuildSchedule(worker.config.parallel().schedule(), /*stages=*/1, /*chunks=*/1, /*micro_batches=*/1, /*stage=*/0);
  recorded.recording = worker.device.Record([&] {
    worker.transformer.Begin({recorded.input});
    RunSchedule(actions, worker.transformer, *worker.pipeline);
    recorded.loss = worker.transformer.Losses().front();
  });
  return recorded;
}

std::vector<Tensor> ReplayBatches(Worker& worker, const std::vector<Batch>& batches) {
  const RecordedMicroBatch& recorded = worker.recorded;
  std::vector<Tensor> losses;
  for (const Batch& batch : batches) {
    worker.device.Upload(batch.inputs.data(), recorded.input.ids);
    worker.device.Upload(batch.targets.data(), recorded.input.targets);
    recorded.recording->Replay();
    worker.tensor->Replayed();
    losses.push_back(worker.device.Allocate(DType::kFloat32, recorded.loss.shape(), Purpose::kActivations));
    Cast(worker.device, recorded.loss, losses.back());
  }
  worker.reducer.AllHomesDone();
  return losses;
}

// Forward and backward of a step: the first one as it stands, later ones from a recording where that is asked for, made
// by the second. An observer is shown every op, so its steps run as they stand too.
std::vector<Tensor> RunTraining(Worker& worker, const std::vector<Batch>& batches) {
  if (worker.config.runtime().graphs() == RuntimeConfig::ON && worker.stepped && !worker.device.observer()) {
    if (worker.recorded.recording == nullptr) worker.recorded = Record(worker, batches.front());
    if (worker.recorded.recording != nullptr) return ReplayBatches(worker, batches);
  }
  worker.stepped = true;
  return RunBatches(worker, batches, worker.actions, /*training=*/true);
}

// Over all ranks: the sum of all tokens' losses, and of the squares of `gradients`. Every rank gets them. The one place
// of a step where the host waits for the device.
TwoSums TotalSums(Worker& worker, std::span<const Tensor> losses, std::span<const Tensor> gradients) {
  const bool has_losses = worker.last_stage() && worker.tensor->rank() == 0;
  const TwoSums mine = Sums(worker.device, has_losses ? losses : std::span<const Tensor>(), gradients);
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
  const auto batches = ReadBatches(worker, source, first);
  TREFOIL_RETURN_IF_ERROR(worker.all->Agree(batches.status()));
  const std::vector<Tensor> losses = RunTraining(worker, *batches);
  Tell(worker, StepPart::kReduce);
  worker.reducer.Finish();
  Tell(worker, StepPart::kUpdate);
  const TwoSums sums = TotalSums(worker, losses, OwnedGradients(worker.store));
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
    const auto batches = ReadBatches(worker, source, first);
    TREFOIL_RETURN_IF_ERROR(worker.all->Agree(batches.status()));
    sum += TotalSums(worker, RunBatches(worker, *batches, forward, /*training=*/false), {}).sum;
  }
  return sum / static_cast<double>(batches * global_batch * worker.config.model().sequence_length());
}

}  // namespace trefoil
