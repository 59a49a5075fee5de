#include "training/saving/saver.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "checkpoint/directory.h"
#include "checkpoint/writer.h"

namespace trefoil {
namespace {

double SecondsSince(Saver::Clock::time_point start) {
  return std::chrono::duration<double>(Saver::Clock::now() - start).count();
}

}  // namespace

Saver::Saver(FileSystem& fs, World& world, Worker& worker, RunFolder& folder, std::ostream& say)
    : fs_(fs), worker_(worker), folder_(folder), say_(say) {
  if (!SavesInBackground(worker.config.training())) return;
  const RunStorage& storage = folder.storage();
  writer_ = std::make_unique<BackgroundWriter>(
      fs, world, worker, std::max(storage.disk.copies, storage.memory.has_value() ? storage.memory->copies : 1));
}

const CheckpointStorage& Saver::StorageFor(To to) const {
  return to == To::kDisk ? folder_.storage().disk : *folder_.storage().memory;
}

Saver::~Saver() { Join(); }

void Saver::Join() {
  if (removing_.joinable()) removing_.join();
}

bool Saver::IsKept(int64_t step) const {
  const CheckpointConfig& config = worker_.config.training().checkpoint();
  return KeepPolicy{.last = config.keep_last(), .every = config.keep_every()}.ForEver(step);
}

std::optional<Saver::To> Saver::Due(int64_t step) {
  const TrainingConfig& training = worker_.config.training();
  const int32_t every = training.checkpoint().every_steps();
  const bool of_config = every > 0 && step % every == 0, last = step == training.steps();
  if (!last && !of_config && step != retry_step_ && !put_off_) {
    const int32_t in_memory = training.checkpoint().every_steps_in_memory();
    const bool due = in_memory > 0 && step % in_memory == 0 && writer_ != nullptr && !in_flight_;
    return due ? std::optional(To::kMemory) : std::nullopt;
  }
  if (!in_flight_ || last || (of_config && IsKept(step))) return To::kDisk;
  put_off_ = true;
  if (in_flight_->to == To::kDisk && !std::exchange(in_flight_->put_off, true)) {
    say_ << "The checkpoint of step " << step << " is put off: that of step " << in_flight_->state.step()
         << " is still being written." << std::endl;
  }
  return std::nullopt;
}

CheckpointContent Saver::ContentOf(const TrainerState& state) {
  return ContentWithoutSlices(worker_, state, folder_.owner(), [this] { return folder_.Check(); });
}

double Saver::BeforeUpdate() {
  if (!in_flight_) return 0;
  const Clock::time_point begin = Clock::now();
  writer_->WaitCopied();
  const double seconds = SecondsSince(begin);
  in_flight_->stall_seconds += seconds;
  return seconds;
}

absl::Status Saver::AfterStep(int64_t step, bool some_rank_writes) {
  RemoveOld();
  if (!in_flight_ || some_rank_writes) return absl::OkStatus();
  return Commit(step, NextTry::kLater);
}

absl::Status Saver::Finish() {
  if (!in_flight_) return absl::OkStatus();
  return Commit(in_flight_->state.step(), NextTry::kNone);
}

absl::Status Saver::Save(const TrainerState& state, bool last, Clock::time_point begin) {
  if (in_flight_) TREFOIL_RETURN_IF_ERROR(Commit(state.step(), NextTry::kNow));
  if (saved_step_ == state.step()) {
    RemoveOld();
    return absl::OkStatus();
  }
  put_off_ = false;
  Join();
  MakeRoom();
  return writer_ == nullptr || last ? SaveInForeground(state, last, begin) : Begin(state, To::kDisk, begin);
}

absl::Status Saver::Begin(const TrainerState& state, To to, Clock::time_point begin) {
  const During save(*worker_.all, Phase::kSave);
  const CheckpointStorage& storage = StorageFor(to);
  if (to == To::kMemory) Join();
  const absl::Status status = BeginSave(fs_, *worker_.all, storage, ContentOf(state));
  if (!status.ok() && to == To::kMemory && !absl::IsFailedPrecondition(status)) {
    FailedInMemory(state.step(), status);
    return absl::OkStatus();
  }
  if (!status.ok()) return Failed(state.step(), state.step(), status, NextTry::kLater);
  writer_->Start(storage, PartialCheckpointPath(storage.folder, state.step(), folder_.owner()));
  in_flight_ = {.state = state, .to = to, .stall_seconds = SecondsSince(begin)};
  RemoveOld();
  return absl::OkStatus();
}

absl::Status Saver::Commit(int64_t step, NextTry next) {
  const Clock::time_point begin = Clock::now();
  const During save(*worker_.all, Phase::kSave);
  const BackgroundWriter::Written written = writer_->Take();
  const InFlight saved = *std::exchange(in_flight_, std::nullopt);
  const absl::Status status =
      FinishSave(fs_, *worker_.all, StorageFor(saved.to), ContentOf(saved.state), written.part);
  const bool in_memory = saved.to == To::kMemory;
  if (!status.ok() && in_memory && !absl::IsFailedPrecondition(status)) {
    FailedInMemory(saved.state.step(), status);
    return absl::OkStatus();
  }
  if (!status.ok()) return Failed(saved.state.step(), step, status, next);
  const SaveFigures figures = {.step = saved.state.step(),
                               .in_memory = in_memory,
                               .write_seconds = written.seconds,
                               .stall_seconds = saved.stall_seconds + SecondsSince(begin)};
  in_memory ? SavedInMemory(figures) : Saved(saved.state, figures, /*background=*/true);
  return absl::OkStatus();
}

absl::Status Saver::SaveInForeground(const TrainerState& state, bool last, Clock::time_point begin) {
  const During save(*worker_.all, Phase::kSave);
  const absl::Status status =
      SaveCheckpoint(fs_, worker_, folder_.storage().disk, state, folder_.owner(), [this] { return folder_.Check(); });
  if (!status.ok()) return Failed(state.step(), state.step(), status, last ? NextTry::kNone : NextTry::kLater);
  const double seconds = SecondsSince(begin);
  Saved(state, {.step = state.step(), .write_seconds = seconds, .stall_seconds = seconds}, /*background=*/false);
  RemoveOld();
  if (last) RemoveSnapshots();
  return absl::OkStatus();
}

void Saver::Saved(const TrainerState& state, const SaveFigures& figures, bool background) {
  failures_ = 0;
  retry_step_ = -1;
  saved_step_ = state.step();
  const CheckpointConfig& config = worker_.config.training().checkpoint();
  remove_ = {.folder = folder_.storage().disk.folder,
             .step = saved_step_,
             .keep = {.last = config.keep_last(), .every = config.keep_every(), .best = state.early_stop().step()}};
  say_ << absl::StrFormat("Saved checkpoint of step %d in %.2f s", saved_step_, figures.write_seconds);
  if (background) say_ << absl::StrFormat(" in the background; training waited %.4f s", figures.stall_seconds);
  say_ << "." << std::endl;
  figures_.push_back(figures);
}

void Saver::SavedInMemory(const SaveFigures& figures) {
  failing_in_memory_ = false;
  remove_ = {.folder = folder_.storage().memory->folder, .step = figures.step, .keep = {.last = 1}};
  figures_.push_back(figures);
}

void Saver::FailedInMemory(int64_t step, const absl::Status& status) {
  if (std::exchange(failing_in_memory_, true)) return;
  say_ << "WARNING: the snapshot of step " << step << " in memory was not taken: " << status.message()
       << ". Training goes on, and so do the tries; the next warning is of a failure after one that was taken." << std::endl;
}

absl::Status Saver::Failed(int64_t saved, int64_t step, const absl::Status& status, NextTry next) {
  if (absl::IsFailedPrecondition(status)) return status;
  const CheckpointConfig& config = worker_.config.training().checkpoint();
  const std::string newest = saved_step_ > 0 ? absl::StrCat("the newest checkpoint is of step ", saved_step_)
                                             : "there is no checkpoint yet";
  const std::string what = absl::StrCat("the checkpoint of step ", saved, " was not saved: ", status.message());
  ++failures_;
  if (next == NextTry::kNone || (next == NextTry::kLater && failures_ >= config.failed_saves())) {
    return absl::Status(status.code(), absl::StrCat(what, " (", failures_, failures_ == 1 ? " failure" : " failures",
                                                    " in a row); ", newest));
  }
  std::string when = "now";
  if (next == NextTry::kLater) {
    retry_step_ = step + std::max(1, config.every_steps() / 10);
    when = absl::StrCat("after step ", std::min<int64_t>(retry_step_, worker_.config.training().steps()));
  }
  say_ << "WARNING: " << what << ". Training goes on; " << newest << "; the next try is " << when << " (failure "
       << failures_ << " in a row; " << config.failed_saves() << " end the run)." << std::endl;
  return absl::OkStatus();
}

void Saver::MakeRoom() {
  if (!remove_ || !folder_.storage().Of(remove_->folder + "/").Leads(*worker_.all)) return;
  const auto free = fs_.FreeBytes(remove_->folder);
  const auto newest = CheckpointBytesOnDisk(fs_, CheckpointPath(remove_->folder, remove_->step));
  if (!free.ok() || !newest.ok() || *free >= *newest) return;
  RemoveOld();
  Join();
}

void Saver::RemoveOld() {
  if (!remove_) return;
  const Removal removal = *std::exchange(remove_, std::nullopt);
  if (!folder_.storage().Of(removal.folder + "/").Leads(*worker_.all)) return;
  Join();
  removing_ = std::thread(
      [this, removal] { RemoveOldCheckpoints(fs_, removal.folder, removal.step, removal.keep); });
}

void Saver::RemoveSnapshots() {
  const auto& memory = folder_.storage().memory;
  if (memory.has_value() && memory->Leads(*worker_.all)) RemoveAllCheckpoints(fs_, memory->folder);
}

}  // namespace trefoil
