#include "training/trainer.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <chrono>
#include <optional>

#include "checkpoint/directory.h"
#include "model/model_text.h"
#include "training/early_stop.h"
#include "training/fine_tuning.h"
#include "training/log/metrics.h"
#include "training/log/progress_meter.h"
#include "training/log/trace.h"
#include "training/optimizer/learning_rate.h"
#include "training/replica_check.h"
#include "training/saving/initial_weights.h"
#include "training/saving/newest_checkpoint.h"
#include "training/saving/resume.h"
#include "training/saving/saver.h"
#include "training/step.h"
#include "training/tasks/tasks.h"

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kTracedSteps = 3;
// After how many steps the run's length is told, and for how many more at least.
constexpr int64_t kStepsToTellBy = 3, kStepsToTellOf = 20;

bool ComesDue(int32_t every, int64_t step) { return every > 0 && step % every == 0; }

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

RunLength LengthOf(const RunConfig& config, bool evaluates) {
  const TrainingConfig& training = config.training();
  return {.steps = training.steps(),
          .evaluates = evaluates,
          .evaluate_every = training.evaluate_every_steps(),
          .save_every = training.checkpoint().every_steps(),
          .images = SampleSizeOf(config.model()).images};
}

class Trainer {
 public:
  Trainer(const RunConfig& config, RunStart start, World& world, Device& device, const TrainerOptions& options)
      : options_(options),
        config_(config),
        start_(std::move(start)),
        device_(device),
        worker_(config, world, device),
        state_(start_.identity),
        saver_(*options.fs, world, worker_, *start_.folder, Say()),
        meter_(LengthOf(config, start_.data.evaluation_samples > 0)) {}

  absl::StatusOr<RunEnd> Run() {
    absl::StatusOr<RunEnd> end = RunToEnd();
    // Every rank has the error.
    if (!end.ok() && !absl::IsFailedPrecondition(end.status())) saver_.Finish().IgnoreError();
    return end;
  }

 private:
  absl::StatusOr<RunEnd> RunToEnd() {
    TREFOIL_RETURN_IF_ERROR(Begin());
    const int64_t steps = config_.training().steps();
    if (state_.step() >= steps) {
      Say() << "This run is finished: step " << state_.step() << " of " << steps
            << ". Raise training.steps to train on, or give another folder.\n";
      return RunEnd::kFinished;
    }
    if (stops_early()) {
      Say() << "This run is finished: it stopped early after step " << state_.step() << "; " << EarlyStopText(state_)
            << BestCheckpoint() << ". Raise training.early_stop.evaluations to train on, or give another folder.\n";
      return RunEnd::kFinished;
    }
    TREFOIL_RETURN_IF_ERROR(worker_.all->Agree(OpenFiles()));
    if (rank_zero() && !config_.training().trace().empty()) trace_ = std::make_unique<OpTrace>(device_);
    first_step_ = state_.step();
    TREFOIL_RETURN_IF_ERROR(BeginReading());
    began_ = Clock::now();
    const During steps_of_the_run(*worker_.all, Phase::kStep);
    stop_ = StopBeforeTheFirstStep();
    while (state_.step() < steps) {
      if (stop_) {
        TREFOIL_RETURN_IF_ERROR(Save(/*last=*/true));
        Say() << "Stopped on request after step " << state_.step() << "; the same command goes on from there.\n";
        return RunEnd::kStopped;
      }
      TREFOIL_RETURN_IF_ERROR(OneStep());
      if (!stops_early() || state_.step() == steps) continue;
      TREFOIL_RETURN_IF_ERROR(Save(/*last=*/true));
      Say() << "Stopped early after step " << state_.step() << ": " << EarlyStopText(state_) << BestCheckpoint()
            << ".\n";
      return RunEnd::kFinished;
    }
    Say() << "Done: " << steps << " steps in " << static_cast<int64_t>(SecondsSince(began_)) << " s.\n";
    return RunEnd::kFinished;
  }

  bool rank_zero() const { return worker_.all->rank() == 0; }
  bool stops_early() const { return StopsEarly(config_.training().early_stop(), state_); }
  // Where it is, unless its save has failed.
  std::string BestCheckpoint() const {
    const std::string path = CheckpointPath(CheckpointsFolder(config_), state_.early_stop().step());
    return rank_zero() && options_.fs->Exists(path) ? "; the best checkpoint is " + path : "";
  }
  // Rank 0's line to people; a sink elsewhere.
  std::ostream& Say() { return rank_zero() && options_.out != nullptr ? *options_.out : silence_; }

  // Parameters from the checkpoint, from given weights, or at random.
  absl::Status Begin() {
    if (!start_.candidates.checkpoints.empty()) {
      TREFOIL_ASSIGN_OR_RETURN(const TrainerState saved,
                               LoadNewest(*options_.fs, worker_, start_.folder->storage(), start_.candidates, Say()));
      state_.set_step(saved.step());
      state_.set_samples_used(saved.samples_used());
      // One of before this was counted had samples of the model's lengths.
      state_.set_tokens_used(saved.tokens_used() > 0 ? saved.tokens_used()
                                                     : saved.samples_used() * TokensOfSample(config_.model()));
      state_.set_skipped_steps(saved.skipped_steps());
      state_.set_skipped_in_a_row(saved.skipped_in_a_row());
      // What was best when nothing is compared with it any more is soon no longer known.
      if (config_.training().early_stop().evaluations() > 0) *state_.mutable_early_stop() = saved.early_stop();
      saver_.StartedFrom(state_.step());
    } else if (!start_.initial_weights.empty()) {
      TREFOIL_ASSIGN_OR_RETURN(const std::string taken,
                               LoadInitialWeights(*options_.fs, worker_, start_.initial_weights));
      Say() << taken << "\n";
    } else {
      worker_.store.Initialize(config_.training().seed(), worker_.groups);
      Say() << "Starting from random weights, seed " << config_.training().seed() << ".\n";
    }
    for (const std::string& note : start_.notes) Say() << note << "\n";
    return absl::OkStatus();
  }

  absl::Status BeginReading() {
    const RunData& data = start_.data;
    const int64_t end = state_.samples_used() + (config_.training().steps() - first_step_) *
                                                    config_.training().global_batch();
    if (data.train.samples != nullptr) training_ = ReadAhead(config_, *data.train.samples, end);
    if (rank_zero()) Say() << DescribeData(config_, data, end);
    if (data.evaluation_samples == 0) return absl::OkStatus();
    if (data.held_out.samples != nullptr) {
      held_out_ = ReadAhead(config_, *data.held_out.samples, data.evaluation_samples);
    }
    TREFOIL_ASSIGN_OR_RETURN(entropy_, TargetEntropy(data, worker_));
    return absl::OkStatus();
  }

  // Rank 0's, now that nothing is in the way of the run.
  absl::Status OpenFiles() {
    if (!rank_zero()) return absl::OkStatus();
    TREFOIL_RETURN_IF_ERROR(WriteRunFolder(*options_.fs, config_));
    TREFOIL_ASSIGN_OR_RETURN(metrics_, MetricsWriter::Open(*options_.fs, config_.folder(), state_.step(), Say()));
    return absl::OkStatus();
  }

  // Each step then tells by itself.
  bool StopBeforeTheFirstStep() {
    double stop = options_.stop_requested() ? 1 : 0;
    worker_.all->AllReduceMax(std::span(&stop, 1));
    return stop > 0;
  }

  // What samples of such lengths come to.
  void Measure(const SampleLengths& lengths) {
    if (lengths == measured_) return;
    const RunConfig run = WithLengths(config_, lengths);
    flops_per_sample_ = TrainingFlops(run);
    tokens_per_sample_ = TokensOfSample(run.model());
    measured_ = lengths;
  }

  absl::Status OneStep() {
    const Clock::time_point begin = Clock::now();
    const TrainingConfig& training = config_.training();
    const int64_t step = state_.step() + 1;
    StepMetrics metrics;
    metrics.step = step;
    metrics.learning_rate = LearningRate(training.optimizer(), training.steps(), step);
    double waited = 0;  // for the copy of a save in the background
    const auto result =
        TrainStep(worker_, training_, step, state_.samples_used(), metrics.learning_rate, state_.skipped_steps(),
                  {.stop_requested = [this] { return options_.stop_requested(); },
                   .is_writing = [this] { return saver_.is_writing(); },
                   .before_update = [&] { waited = saver_.BeforeUpdate(); },
                   .compute_twice = ComesDue(training.compute_twice_every_steps(), step)});
    TREFOIL_RETURN_IF_ERROR(WithKept(result.status()));
    stop_ = result->stop;
    state_.set_step(step);
    state_.set_samples_used(state_.samples_used() + training.global_batch());
    metrics.skipped = !result->not_finite.empty();
    CountSkipped(metrics.skipped);
    metrics.loss = result->loss;
    metrics.gradient_norm = result->gradient_norm;
    Measure(result->lengths);
    metrics.samples = training.global_batch();
    metrics.tokens = metrics.samples * tokens_per_sample_;
    metrics.total_samples = state_.samples_used();
    state_.set_tokens_used(state_.tokens_used() + metrics.tokens);
    metrics.total_tokens = state_.tokens_used();
    metrics.epoch = start_.data.Epochs(metrics.total_samples);
    metrics.seconds = SecondsSince(begin) - waited;
    metrics.communication_seconds = result->communication_seconds;
    metrics.ranks = result->ranks;
    metrics.model_flops = flops_per_sample_ * training.global_batch();
    metrics.peak = options_.peak;
    meter_.Stepped(step, metrics.seconds);
    TREFOIL_RETURN_IF_ERROR(saver_.AfterStep(step, result->writing));
    metrics.saves = saver_.TakeFigures();
    for (const SaveFigures& save : metrics.saves) {
      if (!save.in_memory) meter_.Saved(save.stall_seconds);
    }
    const bool last = step == training.steps();
    const int32_t every = training.evaluate_every_steps();
    const int64_t samples = start_.data.evaluation_samples;
    bool best = false;
    if (samples > 0 && (last || (every > 0 && step % every == 0))) {
      const Clock::time_point evaluation = Clock::now();
      TREFOIL_ASSIGN_OR_RETURN(const Evaluation held_out, Evaluate(worker_, held_out_, samples));
      metrics.held_out_loss = held_out.loss;
      metrics.held_out_accuracy = held_out.accuracy;
      best = NoteEvaluation(training.early_stop(), held_out, &state_);
      meter_.Evaluated(SecondsSince(evaluation));
    }
    if (rank_zero()) Report(&metrics, last);
    if (metrics.skipped) TREFOIL_RETURN_IF_ERROR(WithKept(SaySkipped(*result)));
    if (!training.trace().empty() && (last || step == first_step_ + kTracedSteps)) {
      TREFOIL_RETURN_IF_ERROR(worker_.all->Agree(WriteTrace()));
    }
    const std::optional<Saver::To> to = saver_.Due(step);
    if (best || to == Saver::To::kDisk) return Save(last);
    if (ComesDue(training.compare_replicas_every_steps(), step)) {
      TREFOIL_RETURN_IF_ERROR(WithKept(CompareReplicas(worker_)));
    }
    return to == Saver::To::kMemory ? saver_.SaveInMemory(state_, Clock::now()) : absl::OkStatus();
  }

  // Saves what is the same on all ranks that hold it.
  absl::Status Save(bool last) {
    const TrainingConfig& training = config_.training();
    const Clock::time_point begin = Clock::now();
    if (rank_zero()) metrics_->Flush();
    const bool never = training.has_compare_replicas_every_steps() && training.compare_replicas_every_steps() == 0;
    if (!never && saver_.saved_step() != state_.step()) {
      TREFOIL_RETURN_IF_ERROR(WithKept(CompareReplicas(worker_)));
    }
    return saver_.Save(state_, last, begin);
  }

  // An error after which there is nothing good in memory to save says what there is.
  absl::Status WithKept(const absl::Status& status) {
    if (!absl::IsDataLoss(status)) return status;
    saver_.Finish().IgnoreError();
    const int64_t kept = saver_.saved_step();
    return absl::DataLossError(absl::StrCat(
        status.message(), kept > 0 ? absl::StrCat(". The checkpoint of step ", kept, " is kept: it is from before")
                                   : std::string(". There is no checkpoint yet")));
  }

  void CountSkipped(bool skipped) {
    state_.set_skipped_steps(state_.skipped_steps() + (skipped ? 1 : 0));
    state_.set_skipped_in_a_row(skipped ? state_.skipped_in_a_row() + 1 : 0);
  }

  // An error if it is one too many.
  absl::Status SaySkipped(const StepResult& result) {
    const int32_t in_a_row = state_.skipped_in_a_row(), limit = config_.training().on_nan_limit();
    const std::string what = absl::StrCat("step ", state_.step(), " is skipped: loss ", result.loss, ", gradient norm ",
                                          result.gradient_norm, "; not finite first: ", result.not_finite);
    if (in_a_row >= limit) {
      return absl::DataLossError(absl::StrCat(what, ". It is number ", in_a_row,
                                              " in a row, and training.on_nan_limit ", limit, " ends the run"));
    }
    Say() << "WARNING: " << what << " (" << in_a_row << " in a row; " << limit << " end the run)." << std::endl;
    return absl::OkStatus();
  }

  // Rank 0's.
  void Report(StepMetrics* metrics, bool last) {
    metrics->time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    metrics_->Write(*metrics);
    const int64_t step = metrics->step, steps = config_.training().steps();
    if (last || step == first_step_ + 1 || step % config_.training().log_every_steps() == 0) {
      Say() << meter_.Line(*metrics) << std::endl;
    }
    if (step == first_step_ + kStepsToTellBy && steps - step >= kStepsToTellOf) {
      Say() << "length    " << meter_.Length() << "; evaluations and saves come on top" << std::endl;
    }
    if (metrics->held_out_loss.has_value()) {
      Say() << "held-out loss " << *metrics->held_out_loss;
      if (metrics->held_out_accuracy.has_value()) {
        Say() << absl::StrFormat(", accuracy %.2f%%", 100 * *metrics->held_out_accuracy);
      }
      Say() << " at step " << step;
      if (entropy_ > 0) {
        Say() << " (" << (config_.model().head() == ModelConfig::CLASSES ? "entropy of the classes " : "unigram entropy ")
              << entropy_ << ")";
      }
      Say() << std::endl;
    }
  }

  absl::Status WriteTrace() {
    if (trace_ == nullptr) return absl::OkStatus();
    TREFOIL_RETURN_IF_ERROR(trace_->Write(*options_.fs, config_.training().trace()));
    trace_.reset();
    Say() << "Wrote the trace " << config_.training().trace() << "." << std::endl;
    return absl::OkStatus();
  }

  std::ostream silence_{nullptr};
  const TrainerOptions& options_;
  const RunConfig& config_;
  const RunStart start_;
  Device& device_;
  Worker worker_;
  TrainerState state_;
  Saver saver_;
  ProgressMeter meter_;
  // Of the step at hand, whose samples have these lengths.
  SampleLengths measured_;
  double flops_per_sample_ = 0;
  int64_t tokens_per_sample_ = 0;
  BatchSource training_, held_out_;
  double entropy_ = 0;  // of the held-out targets, on rank 0
  std::unique_ptr<MetricsWriter> metrics_;  // rank 0
  std::unique_ptr<OpTrace> trace_;          // rank 0, while it records
  int64_t first_step_ = 0;
  bool stop_ = false;  // on request; the same on every rank
  Clock::time_point began_;
};

}  // namespace

absl::StatusOr<RunEnd> Train(const RunConfig& config, RunStart start, World& world, Device& device,
                             const TrainerOptions& options) {
  TREFOIL_RETURN_IF_ERROR(OwnRunFolder(*options.fs, config, world.all(), &start));
  return Trainer(config, std::move(start), world, device, options).Run();
}

absl::StatusOr<RunEnd> Train(const RunConfig& config, World& world, Device& device, const TrainerOptions& options) {
  TREFOIL_ASSIGN_OR_RETURN(RunStart start,
                           FindStart(*options.fs, config, world.all(), options.allow_change));
  return Train(config, std::move(start), world, device, options);
}

}  // namespace trefoil
