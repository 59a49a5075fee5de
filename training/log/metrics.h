// What a run writes about itself, on rank 0 only: a line per step in metrics.jsonl and for TensorBoard. The console's
// line is training/log/progress_meter.h.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto writer, MetricsWriter::Open(fs, folder, /*resumed_step=*/0, std::cout));
//   ... after each step:
//   writer->Write(metrics);
//
// docs/metrics.md lists the fields for those who read the files.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "training/log/growing_file.h"
#include "training/log/peak_flops.h"
#include "training/log/tensorboard.h"
#include "training/rank_figures.h"
#include "training/saving/save_figures.h"

namespace trefoil {

// One optimizer step of the whole job.
struct StepMetrics {
  int64_t step = 0;          // from 1
  double time = 0;           // when it was done: seconds since 1970, by rank 0's clock
  double loss = 0;           // mean over the step's tokens, in nats
  double gradient_norm = 0;  // global, before clipping
  double learning_rate = 0;
  bool skipped = false;      // by training.on_nan SKIP: it updated nothing
  int64_t samples = 0;       // used in this step
  int64_t tokens = 0;        // their tokens; of images their patches and class tokens
  int64_t total_samples = 0;  // used by the run so far, those of skipped steps too
  int64_t total_tokens = 0;   // those samples' tokens
  // How often the run has gone through its corpus: total_samples by the samples that all of data.train holds. Where
  // sources are mixed by weight it may have gone through one more often and through another less.
  double epoch = 0;
  double seconds = 0;        // that it took: training only, neither evaluation nor save
  // Of these, that rank 0's main thread waited for messages (parallel/collectives/patience.h): collectives, pipeline
  // messages, and ranks that were slower or whose turn it was. What moves while it computes does not count.
  double communication_seconds = 0;
  RanksSummary ranks;        // of the same step
  double model_flops = 0;    // that the model needs for these tokens; recomputation does not count
  PeakFlops peak;            // of all ranks together
  std::optional<double> held_out_loss;  // if measured after this step
  std::optional<double> held_out_accuracy;  // the same, of tokens or classes
  std::vector<SaveFigures> saves;           // that were completed since the line of the step before

  double TokensPerSecond() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
  double SamplesPerSecond() const { return seconds > 0 ? static_cast<double>(samples) / seconds : 0; }
  double FlopsPerSecond() const { return seconds > 0 ? model_flops / seconds : 0; }
  // Model FLOP/s utilisation, 1 at the peak (Chowdhery et al. 2022, PaLM, appendix B): of the vendor's peak where it is
  // known, else of the measured one. 0: neither is known.
  double Mfu() const { return peak.best() > 0 ? FlopsPerSecond() / peak.best() : 0; }
  // The same, of the measured peak.
  double MeasuredMfu() const { return peak.measured > 0 ? FlopsPerSecond() / peak.measured : 0; }
};

// One JSON object on one line, without its end; numbers read back exactly, and what is not finite is null.
// docs/metrics.md has an example and the meaning of each field.
std::string MetricsJson(const StepMetrics& metrics);

// FOLDER/metrics.jsonl, and a TensorBoard event file in FOLDER. Each step is in the files when Write returns, so that
// others can follow.
//
// A run does not end because a line cannot be written (full disk, folder gone, quota): a warning says so, training goes
// on, every step tries again, and when one succeeds it is said which steps are lost. Warnings come with the 1st, 10th,
// 100th lost step in a row and then with each 1000th. Both files hold whole lines and records all the time
// (training/log/growing_file.h).
//
// Threads: one at a time.
class MetricsWriter {
 public:
  // resumed_step: the last step that counts; 0 for a new run. Lines of later steps, which the run is about to do again,
  // and a line that a crash left unfinished are cut off in place: a reader that follows the file sees it become
  // shorter. A new run keeps the metrics.jsonl that it finds (of one that ended before its first checkpoint) as
  // metrics.1.jsonl, or the next free number, and says so. FOLDER exists. `fs` and `say`, rank 0's lines to people, must
  // outlive the writer.
  // Failure: a file that cannot be opened: this is the start of a run.
  static absl::StatusOr<std::unique_ptr<MetricsWriter>> Open(FileSystem& fs, const std::string& folder,
                                                             int64_t resumed_step, std::ostream& say);

  void Write(const StepMetrics& metrics);
  // What is written outlives a power cut: before a checkpoint, whose steps' lines a resumed run does not make again.
  void Flush();

 private:
  MetricsWriter(FileSystem& fs, const std::string& folder, std::ostream& say);
  void CountLost(int64_t step, const absl::Status& status);

  std::ostream& say_;
  GrowingFile lines_;
  TensorBoardWriter tensorboard_;
  int64_t lost_ = 0, first_lost_ = 0;  // steps in a row; the first of them
};

}  // namespace trefoil
