#include "training/training_rules.h"

#include <algorithm>
#include <bit>
#include <string>

#include "parallel/pipeline/schedule.h"
#include "runtime/config/nearest.h"

namespace trefoil {
namespace {

void CheckBatch(const TrainingConfig& training, const ParallelConfig& parallel, Rules& rules) {
  if (!rules.Good("training.global_batch", "training.micro_batch", "parallel.data")) return;
  const int64_t unit = Product(training.micro_batch(), parallel.data());
  if (training.global_batch() % unit != 0) {
    return rules.Broken("training.global_batch: ", training.global_batch(), " is not a multiple of training.micro_batch ",
                        training.micro_batch(), " x parallel.data ", parallel.data(), " = ", unit, "; nearest legal: ",
                        NearestMultiples(unit, training.global_batch()));
  }
  if (!rules.Good("parallel.schedule", "parallel.pipeline")) return;
  const ScheduleEntry& schedule = EntryOf(parallel.schedule());
  const std::string& name = ParallelConfig::Schedule_Name(schedule.schedule);
  const int64_t micro_batches = training.global_batch() / unit;
  const int least = schedule.least_micro_batches(parallel.pipeline());
  if (schedule.whole_rounds && micro_batches % parallel.pipeline() != 0) {
    rules.Broken("training.global_batch: ", training.global_batch(), " makes ", micro_batches,
                 " micro-batches per step, which ", name, " needs to be a multiple of parallel.pipeline ",
                 parallel.pipeline(), "; nearest legal: ",
                 NearestMultiples(Product(unit, parallel.pipeline()), training.global_batch()));
  } else if (micro_batches < least) {
    rules.Broken("training.global_batch: ", training.global_batch(), " makes ", micro_batches,
                 " micro-batches per step, must be at least ", least, " with ", name, " over ", parallel.pipeline(),
                 " stages; nearest legal: ", Product(unit, least), " (or schedule: ",
                 schedule.least_chunks > 1 ? "INTERLEAVED)" : "ONE_F_ONE_B)");
  }
}

// Whether `groups` is `data` doubled some number of times.
bool Doubles(int64_t data, int64_t groups) {
  return data > 0 && groups >= data && groups % data == 0 && std::has_single_bit(static_cast<uint64_t>(groups / data));
}

void CheckGradientGroups(const TrainingConfig& training, const ParallelConfig& parallel, const RuntimeConfig& runtime,
                         Rules& rules) {
  const int64_t groups = training.gradient_groups(), data = parallel.data();
  if (!rules.Good("training.gradient_groups", "training.global_batch", "training.micro_batch", "parallel.data")) return;
  if (groups == 0) return;
  const int64_t micro_batches = training.global_batch() / training.micro_batch();
  if (training.global_batch() % Product(training.micro_batch(), data) != 0) return;  // said by itself
  if (groups > data && rules.Good("parallel.schedule") && !EntryOf(parallel.schedule()).adds_in_turn) {
    rules.Broken("training.gradient_groups: ", groups, ", must not be above parallel.data ", data,
                 " with parallel.schedule ", ParallelConfig::Schedule_Name(parallel.schedule()),
                 ", in which the next group begins to add before this one ends; nearest legal: ", data,
                 " (or schedule ONE_F_ONE_B)");
    return;
  }
  if (groups > data && rules.Good("runtime.sums") && runtime.sums() == RuntimeConfig::FASTEST) {
    rules.Broken("training.gradient_groups: ", groups, ", must not be above parallel.data ", data,
                 " with runtime.sums FASTEST, which has no one order of addition; nearest legal: ", data,
                 " (or sums ORDERED)");
    return;
  }
  if (groups > data && rules.Good("parallel.zero") && parallel.zero() >= ParallelConfig::GRADIENTS) {
    rules.Broken("training.gradient_groups: ", groups, ", must not be above parallel.data ", data,
                 " with parallel.zero ", ParallelConfig::Zero_Name(parallel.zero()),
                 ", which adds up over the data ranks after each micro-batch; nearest legal: ", data,
                 " (or zero OPTIMIZER)");
    return;
  }
  if (Doubles(data, groups) && micro_batches % groups == 0) return;
  int64_t nearest = data;
  while (nearest * 2 <= groups && micro_batches % (nearest * 2) == 0) nearest *= 2;
  rules.Broken("training.gradient_groups: ", groups, ", must be parallel.data ", data,
               " times a power of two and divide the step's ", micro_batches,
               " micro-batches; nearest legal: ", nearest);
}

void CheckCheckpoint(const CheckpointConfig& checkpoint, Rules& rules) {
  rules.AtLeastOne("training.checkpoint.failed_saves", checkpoint.failed_saves());
  if (checkpoint.has_copies()) rules.AtLeastOne("training.checkpoint.copies", checkpoint.copies());
  if (checkpoint.every_steps_in_memory() > 0 && checkpoint.writing() == CheckpointConfig::FOREGROUND) {
    rules.Broken("training.checkpoint.every_steps_in_memory: ", checkpoint.every_steps_in_memory(),
                 ", but writing is FOREGROUND, and snapshots in memory are taken in the background; nearest legal: writing "
                 "BACKGROUND, or every_steps_in_memory 0");
  }
  if (checkpoint.keep_every() > 0 && checkpoint.keep_last() == 0) {
    rules.Broken("training.checkpoint.keep_every: ", checkpoint.keep_every(),
                 ", but keep_last 0 keeps all; nearest legal: ", "keep_last 2, or keep_every 0");
  }
  if (checkpoint.keep_every() > 0 && checkpoint.every_steps() == 0) {
    rules.Broken("training.checkpoint.keep_every: ", checkpoint.keep_every(),
                 ", but every_steps is 0: there is a checkpoint at ", "the end only; nearest legal: every_steps ",
                 checkpoint.keep_every(), ", or keep_every 0");
  }
}

void CheckComputedTwice(const TrainingConfig& training, const RuntimeConfig& runtime, Rules& rules) {
  const int32_t every = training.compute_twice_every_steps();
  if (every == 0 || !rules.Good("training.compute_twice_every_steps", "runtime.sums", "runtime.attention")) return;
  if (runtime.sums() == RuntimeConfig::FASTEST) {
    rules.Broken("training.compute_twice_every_steps: ", every, ", must be 0 with runtime.sums FASTEST, which promises ",
                 "no order of addition; nearest legal: 0 (or sums ORDERED)");
  }
  if (runtime.attention() == RuntimeConfig::CUDNN) {
    rules.Broken("training.compute_twice_every_steps: ", every, ", must be 0 with runtime.attention CUDNN, whose ",
                 "backward adds in no fixed order; nearest legal: 0 (or attention CUDNN_DETERMINISTIC)");
  }
}

void CheckEarlyStop(const TrainingConfig& training, Rules& rules) {
  const EarlyStopConfig& early_stop = training.early_stop();
  if (early_stop.evaluations() > 0 && training.evaluate_every_steps() == 0) {
    rules.Broken("training.early_stop.evaluations: ", early_stop.evaluations(),
                 ", but evaluate_every_steps is 0: there is an ",
                 "evaluation at the end only; nearest legal: evaluate_every_steps ", std::max(1, training.steps() / 10),
                 ", or evaluations 0");
  }
}

void CheckOptimizer(const TrainingConfig& training, Rules& rules) {
  const OptimizerConfig& optimizer = training.optimizer();
  const std::string prefix = "training.optimizer.";
  rules.Positive(prefix + "learning_rate", optimizer.learning_rate(), "3e-4");
  rules.Share(prefix + "final_share", optimizer.final_share(), true);
  rules.Share(prefix + "beta1", optimizer.beta1(), false);
  rules.Share(prefix + "beta2", optimizer.beta2(), false);
  rules.Positive(prefix + "epsilon", optimizer.epsilon(), "1e-8");
  rules.Share(prefix + "decay_share", optimizer.decay_share(), true);
  if (rules.Good(prefix + "warmup_steps", "training.steps") && optimizer.warmup_steps() > training.steps()) {
    rules.Broken(prefix, "warmup_steps: ", optimizer.warmup_steps(), ", must be at most training.steps ",
                 training.steps(), "; nearest legal: ", training.steps());
  }
  if (optimizer.schedule() == OptimizerConfig::INVERSE_SQRT && optimizer.warmup_steps() == 0) {
    rules.Broken(prefix, "warmup_steps: 0, must be at least 1 with schedule INVERSE_SQRT, which is relative to it; ",
                 "nearest legal: 1");
  }
}

}  // namespace

void CheckTraining(const TrainingConfig& training, const ParallelConfig& parallel, const RuntimeConfig& runtime,
                   Rules& rules) {
  rules.AtLeastOne("training.steps", training.steps());
  rules.AtLeastOne("training.micro_batch", training.micro_batch());
  rules.AtLeastOne("training.global_batch", training.global_batch());
  rules.AtLeastOne("training.log_every_steps", training.log_every_steps());
  rules.AtLeastOne("training.on_nan_limit", training.on_nan_limit());
  if (training.has_evaluate_samples()) rules.AtLeastOne("training.evaluate_samples", training.evaluate_samples());
  CheckBatch(training, parallel, rules);
  CheckGradientGroups(training, parallel, runtime, rules);
  CheckCheckpoint(training.checkpoint(), rules);
  CheckOptimizer(training, rules);
  CheckEarlyStop(training, rules);
  CheckComputedTwice(training, runtime, rules);
}

}  // namespace trefoil
