#include "training/trainer.h"

#include <google/protobuf/text_format.h>

#include <chrono>

#include "checkpoint/directory.h"
#include "data/loader.h"
#include "runtime/version.h"
#include "training/learning_rate.h"
#include "training/metrics.h"
#include "training/resume.h"
#include "training/step.h"
#include "training/trace.h"

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kTracedSteps = 3;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Trainer {
 public:
  Trainer(const RunConfig& config, World& world, Device& device, const TrainerOptions& options)
      : options_(options),
        config_(config),
        device_(device),
        worker_(config, world, device),
        meter_(config.training().steps()),
        flops_per_token_(ModelFlopsPerToken(config.model(), config.model().sequence_length())) {}

  absl::Status Run() {
    TREFOIL_RETURN_IF_ERROR(worker_.all->Agree(OpenData()));
    TREFOIL_RETURN_IF_ERROR(worker_.all->Agree(PrepareFolder()));
    TREFOIL_RETURN_IF_ERROR(Start());
    const int64_t steps = config_.training().steps();
    if (state_.step() >= steps) {
      Say() << "This run is finished: step " << state_.step() << " of " << steps
            << ". Raise training.steps to train on, or give another folder.\n";
      return absl::OkStatus();
    }
    TREFOIL_RETURN_IF_ERROR(worker_.all->Agree(OpenMetrics()));
    if (rank_zero() && !config_.training().trace().empty()) trace_ = std::make_unique<OpTrace>(device_);
    start_ = Clock::now();
    first_step_ = state_.step();
    while (state_.step() < steps) {
      if (StopRequested()) {
        TREFOIL_RETURN_IF_ERROR(SaveIfNew());
        Say() << "Stopped on request after step " << state_.step() << "; the same command goes on from there.\n";
        return absl::OkStatus();
      }
      TREFOIL_RETURN_IF_ERROR(OneStep());
    }
    Say() << "Done: " << steps << " steps in " << static_cast<int64_t>(SecondsSince(start_)) << " s.\n";
    return absl::OkStatus();
  }

 private:
  bool rank_zero() const { return worker_.all->rank() == 0; }
  // Rank 0's line to people; a sink elsewhere.
  std::ostream& Say() { return rank_zero() && options_.out != nullptr ? *options_.out : silence_; }

  absl::Status OpenData() {
    const int64_t length = config_.model().sequence_length(), vocabulary = config_.model().vocabulary();
    const DataConfig& data = config_.data();
    TREFOIL_ASSIGN_OR_RETURN(
        train_, Loader::Open({data.train().begin(), data.train().end()}, length, vocabulary, data.seed()));
    if (data.held_out().empty()) return absl::OkStatus();
    TREFOIL_ASSIGN_OR_RETURN(
        held_out_, Loader::Open({data.held_out().begin(), data.held_out().end()}, length, vocabulary, data.seed()));
    const int64_t batch = config_.training().global_batch();
    if (held_out_->samples() < batch) {
      return absl::InvalidArgumentError(
          "data.held_out: " + std::to_string(held_out_->samples()) + " samples of " + std::to_string(length) +
          " tokens, fewer than training.global_batch " + std::to_string(batch) + "; evaluation takes whole batches");
    }
    const int64_t samples = std::min<int64_t>(held_out_->samples(), config_.training().evaluate_samples());
    evaluation_batches_ = std::max<int64_t>(1, samples / batch);
    TREFOIL_ASSIGN_OR_RETURN(unigram_entropy_, held_out_->UnigramEntropy());
    return absl::OkStatus();
  }

  absl::Status PrepareFolder() {
    if (!rank_zero()) return absl::OkStatus();
    if (const absl::Status made = MakeFolderDurably(*options_.fs, config_.folder()); !made.ok()) {
      return absl::Status(made.code(), "folder: " + config_.folder() + " cannot be made: " + std::string(made.message()));
    }
    // The run folder has what its checkpoints need to be used.
    if (const std::string& tokenizer = config_.data().tokenizer(); !tokenizer.empty()) {
      const absl::StatusOr<std::string> model = ReadFile(*options_.fs, tokenizer);
      if (!model.ok()) return absl::Status(model.status().code(), "data.tokenizer: " + std::string(model.status().message()));
      TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(*options_.fs, config_.folder() + "/tokenizer.model", *model));
    }
    std::string text;
    google::protobuf::TextFormat::PrintToString(config_, &text);
    return WriteFileAtomically(*options_.fs, config_.folder() + "/config.pbtxt",
                               "# The config of this run as it was last started, with every default filled in.\n"
                               "# By trefoil " + VersionText() + ".\n" + text);
  }

  // The newest complete checkpoint as rank 0 sees it, for every rank; NotFound if there is none.
  absl::StatusOr<std::string> FindCheckpoint() {
    std::vector<std::string> ignored;
    absl::StatusOr<std::string> latest = std::string();
    if (rank_zero()) latest = LatestCheckpoint(*options_.fs, CheckpointsFolder(config_), &ignored);
    for (const std::string& name : ignored) Say() << "Ignoring " << name << ": not a complete checkpoint.\n";
    TREFOIL_RETURN_IF_ERROR(worker_.all->Agree(latest.status()));
    return worker_.all->AllGatherStrings(*latest).front();
  }

  // Parameters from the newest checkpoint, from given weights, or at random.
  absl::Status Start() {
    const absl::StatusOr<std::string> latest = FindCheckpoint();
    const std::string& weights = config_.training().checkpoint().initial_weights();
    if (latest.ok()) {
      TREFOIL_ASSIGN_OR_RETURN(state_, LoadCheckpoint(*options_.fs, worker_, *latest, /*weights_only=*/false));
      saved_step_ = state_.step();
      Say() << "Resuming from " << *latest << " (step " << state_.step() << ", " << state_.samples_used()
            << " samples used).\n";
      for (const std::string& change : ChangesSince(state_, config_)) Say() << "Note: " << change << ".\n";
    } else if (!absl::IsNotFound(latest.status())) {
      return latest.status();
    } else if (!weights.empty()) {
      TREFOIL_RETURN_IF_ERROR(LoadCheckpoint(*options_.fs, worker_, weights, /*weights_only=*/true).status());
      Say() << "Starting from the weights of " << weights << ".\n";
    } else {
      worker_.store.Initialize(config_.training().seed(), *worker_.data);
      Say() << "Starting from random weights, seed " << config_.training().seed() << ".\n";
    }
    state_.set_seed(config_.training().seed());
    state_.set_data_seed(config_.data().seed());
    *state_.mutable_optimizer() = config_.training().optimizer();
    state_.set_steps(config_.training().steps());
    state_.set_global_batch(config_.training().global_batch());
    return absl::OkStatus();
  }

  absl::Status OpenMetrics() {
    if (!rank_zero()) return absl::OkStatus();
    TREFOIL_ASSIGN_OR_RETURN(metrics_, MetricsWriter::Open(config_.folder(), state_.step()));
    return absl::OkStatus();
  }

  bool StopRequested() {
    double stop = options_.stop_requested() ? 1 : 0;
    worker_.all->AllReduceMax(std::span(&stop, 1));
    return stop > 0;
  }

  absl::Status OneStep() {
    const Clock::time_point begin = Clock::now();
    const TrainingConfig& training = config_.training();
    const int64_t step = state_.step() + 1;
    StepMetrics metrics;
    metrics.step = step;
    metrics.learning_rate = LearningRate(training.optimizer(), training.steps(), step);
    const BatchSource source = [this](int64_t first, int64_t count) { return train_->Get(first, count); };
    auto result = TrainStep(worker_, source, step, state_.samples_used(), metrics.learning_rate);
    if (absl::IsDataLoss(result.status()) && saved_step_ > 0) {
      return absl::DataLossError(std::string(result.status().message()) + ". The checkpoint of step " +
                                 std::to_string(saved_step_) + " is kept");
    }
    TREFOIL_RETURN_IF_ERROR(result.status());
    state_.set_step(step);
    state_.set_samples_used(state_.samples_used() + training.global_batch());
    metrics.loss = result->loss;
    metrics.gradient_norm = result->gradient_norm;
    metrics.tokens = int64_t{training.global_batch()} * config_.model().sequence_length();
    metrics.seconds = SecondsSince(begin);
    metrics.model_flops = flops_per_token_ * static_cast<double>(metrics.tokens);
    metrics.peak_flops = options_.peak_flops;
    const bool last = step == training.steps();
    const int32_t every = training.evaluate_every_steps();
    if (held_out_ != nullptr && (last || (every > 0 && step % every == 0))) {
      const BatchSource held_out = [this](int64_t first, int64_t count) { return held_out_->GetInOrder(first, count); };
      TREFOIL_ASSIGN_OR_RETURN(metrics.held_out_loss, Evaluate(worker_, held_out, evaluation_batches_));
    }
    TREFOIL_RETURN_IF_ERROR(worker_.all->Agree(Report(metrics, last)));
    if (!training.trace().empty() && (last || step == first_step_ + kTracedSteps)) {
      TREFOIL_RETURN_IF_ERROR(worker_.all->Agree(WriteTrace()));
    }
    const int32_t save_every = training.checkpoint().every_steps();
    if (last || (save_every > 0 && step % save_every == 0)) TREFOIL_RETURN_IF_ERROR(SaveIfNew());
    return absl::OkStatus();
  }

  absl::Status Report(const StepMetrics& metrics, bool last) {
    if (!rank_zero()) return absl::OkStatus();
    TREFOIL_RETURN_IF_ERROR(metrics_->Write(metrics));
    const std::string line = meter_.Line(metrics);
    if (last || metrics.step == first_step_ + 1 || metrics.step % config_.training().log_every_steps() == 0) {
      Say() << line << std::endl;
    }
    if (metrics.held_out_loss.has_value()) {
      Say() << "held-out loss " << *metrics.held_out_loss << " at step " << metrics.step << " (unigram entropy "
            << unigram_entropy_ << ")" << std::endl;
    }
    return absl::OkStatus();
  }

  absl::Status WriteTrace() {
    if (trace_ == nullptr) return absl::OkStatus();
    TREFOIL_RETURN_IF_ERROR(trace_->Write(*options_.fs, config_.training().trace()));
    trace_.reset();
    Say() << "Wrote the trace " << config_.training().trace() << "." << std::endl;
    return absl::OkStatus();
  }

  absl::Status SaveIfNew() {
    if (saved_step_ == state_.step()) return absl::OkStatus();
    const Clock::time_point begin = Clock::now();
    TREFOIL_RETURN_IF_ERROR(SaveCheckpoint(*options_.fs, worker_, state_));
    saved_step_ = state_.step();
    Say() << "Saved checkpoint of step " << saved_step_ << " in " << SecondsSince(begin) << " s." << std::endl;
    return absl::OkStatus();
  }

  const TrainerOptions& options_;
  const RunConfig& config_;
  Device& device_;
  Worker worker_;
  ProgressMeter meter_;
  const double flops_per_token_;
  std::unique_ptr<Loader> train_, held_out_;
  int64_t evaluation_batches_ = 0;
  double unigram_entropy_ = 0;
  std::unique_ptr<MetricsWriter> metrics_;  // rank 0
  std::unique_ptr<OpTrace> trace_;          // rank 0, while it records
  TrainerState state_;
  int64_t saved_step_ = 0, first_step_ = 0;
  Clock::time_point start_;
  std::ostream silence_{nullptr};
};

}  // namespace

absl::Status Train(const RunConfig& config, World& world, Device& device, const TrainerOptions& options) {
  return Trainer(config, world, device, options).Run();
}

}  // namespace trefoil
