#include "training/saving/saver.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <chrono>

#include "checkpoint/directory.h"

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

Saver::Saver(FileSystem& fs, Worker& worker, RunFolder& folder, std::ostream& say)
    : fs_(fs), worker_(worker), folder_(folder), say_(say) {}

Saver::~Saver() { Join(); }

void Saver::Join() {
  if (removing_.joinable()) removing_.join();
}

bool Saver::Due(int64_t step) const {
  const TrainingConfig& training = worker_.config.training();
  const int32_t every = training.checkpoint().every_steps();
  return step == training.steps() || step == retry_step_ || (every > 0 && step % every == 0);
}

absl::Status Saver::Save(const TrainerState& state, bool last) {
  if (saved_step_ == state.step()) return absl::OkStatus();
  Join();
  const Clock::time_point begin = Clock::now();
  const During save(*worker_.all, Phase::kSave);
  const absl::Status status =
      SaveCheckpoint(fs_, worker_, state, folder_.owner(), [this] { return folder_.Check(); });
  if (status.ok()) {
    failures_ = 0;
    retry_step_ = -1;
    saved_step_ = state.step();
    say_ << absl::StrFormat("Saved checkpoint of step %d in %.2f s.", saved_step_, SecondsSince(begin)) << std::endl;
    RemoveOld(state.early_stop().step());
    return status;
  }
  if (absl::IsFailedPrecondition(status)) return status;
  const CheckpointConfig& config = worker_.config.training().checkpoint();
  const std::string newest = saved_step_ > 0 ? absl::StrCat("the newest checkpoint is of step ", saved_step_)
                                             : "there is no checkpoint yet";
  const std::string what = absl::StrCat("the checkpoint of step ", state.step(), " was not saved: ", status.message());
  if (++failures_ >= config.failed_saves() || last) {
    return absl::Status(status.code(), absl::StrCat(what, " (", failures_, failures_ == 1 ? " failure" : " failures",
                                                    " in a row); ", newest));
  }
  retry_step_ = state.step() + std::max(1, config.every_steps() / 10);
  say_ << "WARNING: " << what << ". Training goes on; " << newest << "; the next try is after step "
       << std::min<int64_t>(retry_step_, worker_.config.training().steps()) << " (failure " << failures_ << " in a row; "
       << config.failed_saves() << " end the run)." << std::endl;
  return absl::OkStatus();
}

void Saver::RemoveOld(int64_t best_step) {
  if (worker_.all->rank() != 0) return;
  const CheckpointConfig& config = worker_.config.training().checkpoint();
  const KeepPolicy keep = {.last = config.keep_last(), .every = config.keep_every(), .best = best_step};
  removing_ = std::thread([this, keep, folder = CheckpointsFolder(worker_.config), step = saved_step_] {
    RemoveOldCheckpoints(fs_, folder, step, keep);
  });
}

}  // namespace trefoil
