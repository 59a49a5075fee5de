#include "training/step.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "parallel/pipeline/pipeline.h"
#include "runtime/host/process_memory.h"
#include "runtime/ops.h"
#include "training/computed_twice.h"
#include "training/non_finite.h"
#include "training/optimizer/optimizer.h"
#include "training/tasks/tasks.h"
#include "training/upload.h"

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// This rank's micro-batches of a step on the host.
struct Input {
  RunConfig config;  // the worker's, with the lengths of this step's samples
  std::vector<Batch> batches;
  std::vector<int64_t> samples;  // of each batch, that count
  absl::Status status;           // of the reading
  double seconds = 0;            // that it took
};

// The worker's config as of a step on samples [first, first + global batch) of the source.
RunConfig ConfigOfStep(const Worker& worker, const BatchSource& source, int64_t first) {
  RunConfig config = worker.config;
  if (!source.lengths) return config;
  return WithLengths(config, source.lengths(first, config.training().global_batch()));
}

// The tensors of a batch that `whole` has too, made as large with zeros.
void FillUp(const Batch& whole, Batch* batch) {
  for (HostTensor Batch::*tensor :
       {&Batch::inputs, &Batch::lengths, &Batch::document_starts, &Batch::segments, &Batch::decoder_inputs,
        &Batch::patches, &Batch::patch_places, &Batch::targets, &Batch::values, &Batch::places, &Batch::weights}) {
    const HostTensor& expected = whole.*tensor;
    HostTensor& found = batch->*tensor;
    CHECK_EQ(found.defined(), expected.defined()) << "the task's batches have other tensors";
    if (!found.defined()) continue;
    if (!(found.shape() == expected.shape())) found = found.PaddedTo(expected.shape());
    CHECK(found.dtype() == expected.dtype() && found.shape() == expected.shape())
        << Name(found.dtype()) << " " << found.shape() << ", expected " << expected.shape();
  }
}

// This rank's share of the global batch from sample `step_first` of the source on; of samples from `end` on there are
// none, and zeros in their place. A rank that fails goes through the step on zeros, so that the others, who know nothing
// yet, are not left waiting: it tells them with the step's sums.
Input ReadInput(const Worker& worker, const BatchSource& source, int64_t step_first, int64_t end) {
  const Clock::time_point begin = Clock::now();
  Input input;
  input.config = ConfigOfStep(worker, source, step_first);
  const int64_t samples = input.config.training().micro_batch();
  const int64_t share = input.config.training().global_batch() / worker.mesh.size(Axis::kData);
  int64_t first = step_first + share * worker.mesh.index(Axis::kData);
  const Batch zeros = worker.role.reads() ? ZeroBatch(input.config, samples, source.weighted) : Batch();
  for (int i = 0; i < worker.micro_batches(); ++i, first += samples) {
    const int64_t count = std::clamp<int64_t>(end - first, 0, samples);
    Batch batch;
    if (worker.role.reads()) {
      batch = zeros;
      if (count > 0 && input.status.ok()) {
        absl::StatusOr<Batch> read = source(first, count);
        input.status = read.status();
        if (read.ok()) batch = *std::move(read);
      }
      FillUp(zeros, &batch);
    }
    batch.samples = samples;
    batch.length = input.config.model().sequence_length();
    batch.first_sample = first;
    input.batches.push_back(std::move(batch));
    input.samples.push_back(count);
  }
  input.seconds = SecondsSince(begin);
  return input;
}

// The weights of a micro-batch's samples that count, of `targets` each; without weights, their number.
double SumOfWeights(const Batch& batch, int64_t samples, int64_t targets) {
  if (!batch.weights.defined()) return static_cast<double>(samples * targets);
  const std::vector<float>& weights = batch.weights.values<float>();
  return std::accumulate(weights.begin(), weights.begin() + samples * targets, 0.0);
}

// Of those, how many have weights.
double CountOfWeights(const Batch& batch, int64_t samples, int64_t targets) {
  if (!batch.weights.defined()) return static_cast<double>(samples * targets);
  const std::vector<float>& weights = batch.weights.values<float>();
  return static_cast<double>(std::count_if(weights.begin(), weights.begin() + samples * targets,
                                           [](float weight) { return weight > 0; }));
}

// Makes the mean weight of the global batch 1, so that dividing by its targets, whose number every step has alike,
// divides by their weights. The data ranks of a stage that looks at tokens call it together.
void NormaliseWeights(Worker& worker, const BatchSource& source, Input* input) {
  if (!source.weighted || !worker.role.reads_targets) return;
  double sum = 0;
  for (const Batch& batch : input->batches) sum += SumOfWeights(batch, batch.samples, input->config.model().targets());
  worker.data->AllReduceSum(std::span(&sum, 1));
  const double factor = sum > 0 ? static_cast<double>(GlobalTargets(input->config)) / sum : 0;
  for (Batch& batch : input->batches) {
    for (float& weight : batch.weights.values<float>()) weight = static_cast<float>(weight * factor);
  }
}

void Tell(const Worker& worker, StepPart part, const Action* action = nullptr) {
  if (worker.observer) worker.observer(part, action);
}

// Runs `actions` on the input's batches and returns each one's losses; undefined on stages that make none.
std::vector<Tensor> RunBatches(Worker& worker, const Input& input, const std::vector<Action>& actions, bool training) {
  worker.transformer.Begin({});  // gives back what is left of the step before: every step takes what the first takes
  const Reader reader = ReaderOf(worker, input.config);
  Tell(worker, StepPart::kConstants);
  const Constants constants = UploadConstants(reader);
  worker.transformer.Begin(static_cast<int>(input.batches.size()), [&](int number) {
    return UploadMicroBatch(reader, input.batches[static_cast<size_t>(number)], constants, training);
  });
  worker.gatherer.Begin(worker.transformer.ModulesUsed(actions));
  RunSchedule(actions, worker.transformer, *worker.pipeline,
              [&](const Action& action) { Tell(worker, StepPart::kAction, &action); });
  return worker.transformer.Losses();
}

// Without a recording where the device makes none.
RecordedMicroBatch Record(Worker& worker, const Batch& example) {
  worker.transformer.Begin({});  // gives back what is left of the step before
  RecordedMicroBatch recorded;
  const Reader reader = ReaderOf(worker);
  recorded.input = UploadMicroBatch(reader, example, UploadConstants(reader), /*training=*/true);
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
    UploadAgain(worker, batch, recorded.input);
    recorded.recording->Replay();
    worker.tensor->Replayed();
    losses.push_back(worker.device.Allocate(DType::kFloat32, recorded.loss.shape(), Purpose::kActivations));
    Cast(worker.device, recorded.loss, losses.back());
  }
  worker.reducer.AllModulesDone();
  return losses;
}

// Forward and backward of a step: the first one as it stands, later ones from a recording where that is asked for, made
// by the second. An observer is shown every op, so its steps run as they stand too.
std::vector<Tensor> RunTraining(Worker& worker, const Input& input) {
  if (worker.config.runtime().graphs() == RuntimeConfig::ON && worker.stepped && !worker.device.observer()) {
    if (worker.recorded.recording == nullptr) worker.recorded = Record(worker, input.batches.front());
    if (worker.recorded.recording != nullptr) return ReplayBatches(worker, input.batches);
  }
  worker.stepped = true;
  return RunBatches(worker, input, worker.actions, /*training=*/true);
}

ComputedTwice RunTwice(Worker& worker, const Input& input) {
  worker.recorded = {};  // gives back its memory, which the step takes once more
  worker.stepped = true;
  return ComputeTwice(worker, [&] {
    std::vector<Tensor> losses = RunBatches(worker, input, worker.actions, /*training=*/true);
    Tell(worker, StepPart::kReduce);
    worker.reducer.Finish();
    return losses;
  });
}

absl::Status ErredOnce(int64_t step, const std::string& difference) {
  return absl::DataLossError("step " + std::to_string(step) + " has not given the same bits twice; first: " + difference +
                             ". A memory or a processor there, or what sends to it, erred in one of the two; the "
                             "parameters were not updated");
}

// Before steps whose samples have unlike lengths: takes the memory of the longest, which then serves all.
void TakeMemoryOfLongest(Worker& worker, const BatchSource& source) {
  BatchSource longest = ZerosSource(worker.config);
  longest.weighted = source.weighted;
  RunBatches(worker, ReadInput(worker, longest, 0, std::numeric_limits<int64_t>::max()), worker.actions,
             /*training=*/true);
  worker.reducer.Finish();
  ClearGradients(worker.store, worker.device);
  worker.device.arena().ServeSmaller();
}

struct Totals {
  double loss = 0;                // sum over all targets, weighted
  double weights = 0;             // of those
  double correct = 0, counted = 0;  // of an evaluation: targets that were found, of those with a weight
  double squares_of_gradients = 0;
  bool unread = false;            // some rank could not read its samples
  bool stop = false;              // some rank was asked to stop the run
  bool writing = false;           // some rank still writes its part of a checkpoint
  std::vector<double> figures;    // on rank 0: all ranks'
};

// When a step began, by the clock and by what the rank had waited for messages.
struct Begin {
  explicit Begin(const Worker& worker) : patience(*worker.all->membership().patience) {}
  double seconds() const { return SecondsSince(time); }
  double waited_seconds() const { return patience.waited_seconds() - waited; }

  const Patience& patience;
  const Clock::time_point time = Clock::now();
  const double waited = patience.waited_seconds();
};

// Over all ranks; every rank gets them. The one place of a step where the host waits for the device, and the one exchange
// of all ranks of the job: what else is to be known of them goes into `sums`, or into RankFigures if rank 0 alone needs it.
Totals TotalSums(Worker& worker, const Begin& begin, const Input& input, std::span<const Tensor> losses,
                 std::span<const Tensor> gradients, const StepHooks& hooks = {},
                 std::span<const Tensor> correct = {}) {
  const bool has_losses = worker.role.makes_losses && worker.tensor->rank() == 0;
  // Batches are the same on all ranks that share samples' tokens, losses are of each one's own.
  const bool counts = has_losses && worker.context->rank() == 0;
  const ExactSums mine = Sums(worker.device, has_losses ? losses : std::span<const Tensor>(), gradients);
  const bool stop = hooks.stop_requested && hooks.stop_requested();
  const bool writing = hooks.is_writing && hooks.is_writing();
  const int64_t targets = input.config.model().targets();
  double weights = 0, counted = 0, found = 0;
  for (size_t i = 0; counts && i < input.batches.size(); ++i) {
    weights += SumOfWeights(input.batches[i], input.samples[i], targets);
    if (!correct.empty()) counted += CountOfWeights(input.batches[i], input.samples[i], targets);
  }
  if (has_losses && !correct.empty()) found = Sums(worker.device, correct, {}).sum.value();
  constexpr size_t kLimbs = ExactSum::kLimbs;
  std::array<double, 2 * kLimbs + 6> sums = {};
  std::copy_n(mine.sum.limbs().begin(), kLimbs, sums.begin());
  std::copy_n(mine.sum_of_squares.limbs().begin(), kLimbs, sums.begin() + kLimbs);
  sums[2 * kLimbs] = input.status.ok() ? 0 : 1;
  sums[2 * kLimbs + 1] = stop ? 1 : 0;
  sums[2 * kLimbs + 2] = weights;
  sums[2 * kLimbs + 3] = found;
  sums[2 * kLimbs + 4] = counted;
  sums[2 * kLimbs + 5] = writing ? 1 : 0;
  const RankFigures figures = {.work_seconds = begin.seconds() - begin.waited_seconds() - input.seconds,
                               .data_seconds = input.seconds,
                               .reserved_bytes = static_cast<double>(worker.device.memory().reserved),
                               .resident_bytes = static_cast<double>(Resident())};
  std::vector<double> of_all = worker.all->SumAndGather(sums, figures.Packed());
  ExactSum loss, squares;
  std::copy_n(sums.begin(), kLimbs, loss.limbs().begin());
  std::copy_n(sums.begin() + kLimbs, kLimbs, squares.limbs().begin());
  return {.loss = loss.value(),
          .weights = sums[2 * kLimbs + 2],
          .correct = sums[2 * kLimbs + 3],
          .counted = sums[2 * kLimbs + 4],
          .squares_of_gradients = squares.value(),
          .unread = sums[2 * kLimbs] > 0,
          .stop = sums[2 * kLimbs + 1] > 0,
          .writing = sums[2 * kLimbs + 5] > 0,
          .figures = std::move(of_all)};
}

// The parts of the losses that count.
std::vector<Tensor> Counting(const Worker& worker, const std::vector<Tensor>& losses, const Input& input) {
  std::vector<Tensor> counting;
  for (size_t i = 0; i < losses.size(); ++i) {
    const int64_t targets = input.samples[i] * TargetsOfSample(ReaderOf(worker, input.config));
    if (losses[i].defined() && targets > 0) counting.push_back(losses[i].Rows(0, targets));
  }
  return counting;
}

absl::Status NotFinite(int64_t step, const StepResult& result) {
  const bool loss = !std::isfinite(result.loss);
  return absl::DataLossError("step " + std::to_string(step) + ": the " + (loss ? "loss" : "gradient norm") + " is " +
                             std::to_string(loss ? result.loss : result.gradient_norm) +
                             ", must be finite; the parameters were not updated. Not finite first: " + result.not_finite +
                             ". A lower training.optimizer.learning_rate or a longer warmup_steps usually helps; "
                             "training.on_nan: SKIP leaves such steps out");
}

}  // namespace

BatchSource ZerosSource(const RunConfig& config) {
  return BatchSource(
      [config](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
        Batch batch = ZeroBatch(config, count, HasWeights(config));
        batch.first_sample = first;
        return batch;
      },
      HasWeights(config));
}

absl::StatusOr<StepResult> TrainStep(Worker& worker, const BatchSource& source, int64_t step, int64_t first_sample,
                                     double learning_rate, int64_t skipped_before, const StepHooks& hooks) {
  const Begin begin(worker);
  const TrainingConfig& training = worker.config.training();
  if (source.lengths && !worker.stepped) TakeMemoryOfLongest(worker, source);
  Input input = ReadInput(worker, source, first_sample, std::numeric_limits<int64_t>::max());
  NormaliseWeights(worker, source, &input);
  std::vector<Tensor> losses;
  if (hooks.compute_twice) {
    ComputedTwice twice = RunTwice(worker, input);
    if (!twice.difference.empty()) return ErredOnce(step, twice.difference);
    losses = std::move(twice.losses);
  } else {
    losses = RunTraining(worker, input);
    Tell(worker, StepPart::kReduce);
    worker.reducer.Finish();
  }
  Tell(worker, StepPart::kUpdate);
  const Totals totals = TotalSums(worker, begin, input, losses, OwnedGradients(worker.store), hooks);
  if (totals.unread) return worker.all->Agree(input.status);
  StepResult result = {.loss = totals.loss / static_cast<double>(GlobalTargets(input.config)),
                       .gradient_norm = std::sqrt(totals.squares_of_gradients),
                       .communication_seconds = 0,
                       .ranks = {},
                       .stop = totals.stop,
                       .writing = totals.writing,
                       .lengths = SampleLengthsOf(input.config),
                       .not_finite = ""};
  if (worker.all->rank() == 0) result.ranks = Summarise(totals.figures, *worker.all);
  if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
    worker.recorded = {};  // gives back its memory, which the step takes once more
    result.not_finite = FindNonFinite(worker, [&] {
      RunBatches(worker, input, worker.actions, /*training=*/true);
      worker.reducer.Finish();
    });
    result.communication_seconds = begin.waited_seconds();
    if (training.on_nan() == TrainingConfig::SKIP) return result;
    return NotFinite(step, result);
  }
  if (hooks.before_update) hooks.before_update();
  UpdateParameters(worker.store, worker.device, worker.reducer, *worker.optimizer,
                   {.learning_rate = learning_rate,
                    .number = step - skipped_before,
                    .gradient_scale = ClippingScale(training.optimizer(), result.gradient_norm)});
  result.communication_seconds = begin.waited_seconds();
  return result;
}

absl::StatusOr<Evaluation> Evaluate(Worker& worker, const BatchSource& source, int64_t samples) {
  CHECK_GE(samples, 1);
  const int64_t global_batch = worker.config.training().global_batch();
  const std::vector<Action> forward = ForwardOnly(worker.actions);
  double sum = 0, weights = 0, correct = 0, counted = 0;
  for (int64_t batch_first = 0; batch_first < samples; batch_first += global_batch) {
    const Begin begin(worker);
    const Input input = ReadInput(worker, source, batch_first, samples);
    const std::vector<Tensor> losses = RunBatches(worker, input, forward, /*training=*/false);
    const std::vector<Tensor> found = Counting(worker, worker.transformer.Losses(kCorrect), input);
    const Totals totals = TotalSums(worker, begin, input, Counting(worker, losses, input), {}, {}, found);
    if (totals.unread) return worker.all->Agree(input.status);
    sum += totals.loss;
    weights += totals.weights;
    correct += totals.correct;
    counted += totals.counted;
  }
  Evaluation evaluation = {.loss = weights > 0 ? sum / weights : 0};
  if (HasAccuracy(worker.config.model())) evaluation.accuracy = counted > 0 ? correct / counted : 0;
  return evaluation;
}

}  // namespace trefoil
