// What a run writes about itself, on rank 0 only: a line per step on the console, in metrics.jsonl and for TensorBoard.
//
//   ProgressMeter meter(steps);
//   TREFOIL_ASSIGN_OR_RETURN(auto writer, MetricsWriter::Open(folder, /*resumed_step=*/0));
//   ... after each step:
//   TREFOIL_RETURN_IF_ERROR(writer->Write(metrics));
//   std::puts(meter.Line(metrics).c_str());
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "runtime/status.h"
#include "training/tensorboard.h"

namespace trefoil {

// One optimizer step of the whole job.
struct StepMetrics {
  int64_t step = 0;  // from 1
  double loss = 0;   // mean over the step's tokens, in nats
  double gradient_norm = 0;  // global, before clipping
  double learning_rate = 0;
  bool skipped = false;    // by training.on_nan SKIP: it updated nothing
  int64_t tokens = 0;      // used in this step
  double seconds = 0;      // that it took
  double data_seconds = 0;  // of these, that rank 0 waited for its samples
  double model_flops = 0;  // that the model needs for these tokens; recomputation does not count
  double peak_flops = 0;   // per second, of all ranks together, as measured; 0: unknown
  std::optional<double> held_out_loss;  // if measured after this step

  double TokensPerSecond() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
  double FlopsPerSecond() const { return seconds > 0 ? model_flops / seconds : 0; }
  // Model FLOP/s utilisation, 0 to 1 (Chowdhery et al. 2022, PaLM, appendix B).
  double Utilisation() const { return peak_flops > 0 ? FlopsPerSecond() / peak_flops : 0; }
};

// One JSON object on one line, without its end; numbers read back exactly, and what is not finite is null:
//   {"step":3,"loss":5.25,"gradient_norm":1.5,"learning_rate":0.0003,"tokens":1024,"seconds":0.5,
//    "tokens_per_second":2048,"model_flops_per_second":1e+09,"utilisation":0.25,"held_out_loss":5.5}
// and of a step that was skipped "skipped":true.
std::string MetricsJson(const StepMetrics& metrics);

// FOLDER/metrics.jsonl, and a TensorBoard event file in FOLDER. Each step is in the files when Write returns, so that
// others can follow.
class MetricsWriter {
 public:
  // resumed_step: the last step that counts; 0 for a new run. Lines of later steps, which the run is about to do again,
  // and a line that a crash left unfinished are removed. FOLDER exists.
  static absl::StatusOr<std::unique_ptr<MetricsWriter>> Open(const std::string& folder, int64_t resumed_step);

  absl::Status Write(const StepMetrics& metrics);

 private:
  MetricsWriter() = default;
  std::string path_;
  std::ofstream lines_;
  std::unique_ptr<TensorBoardWriter> tensorboard_;
};

// The console's line, with the time left by a moving average of the steps' time:
//   step   40/500  loss 5.2500  norm 1.500  lr 3.00e-04  2048 tokens/s  1.00 GFLOP/s  MFU 25.0%  ETA 0:03:50
class ProgressMeter {
 public:
  explicit ProgressMeter(int64_t total_steps) : total_steps_(total_steps) {}
  // Called once for every step, whether or not the line is shown.
  std::string Line(const StepMetrics& metrics);

 private:
  int64_t total_steps_;
  double seconds_per_step_ = 0;
};

}  // namespace trefoil
