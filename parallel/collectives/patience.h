// How long a rank waits for another before it ends the job: by what the job is doing, because a save may rightly last as
// long as a thousand steps.
//
//   world->patience().set_limits({.startup = 3600, .step = 600, .save = 3600});
//   {
//     const During save(*all, Phase::kSave);    // on every rank
//     ...                                       // a rank that waits here, in any group of the world, waits an hour
//   }
//
// A world begins in Phase::kStartup. A wait keeps the limit that it began with.
//
// It also counts how long the rank has waited: the time in which its main thread, the one that made the world, was held
// up by messages, in whatever group (they move, or are waited for, or the thread that moves them is). What moves while
// the main thread computes is no part of it; nor is what moves between GPUs on their queues: the host does not wait.
//
//   {
//     const Waiting waiting(patience);
//     ...
//   }
//
// Threads: all functions but waited_seconds, which is the main thread's, may be called from any; the phase is the
// rank's, so one thread changes it.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

namespace trefoil {

enum class Phase {
  kStartup,  // until the first step: reading configs and data, loading a checkpoint, planning
  kStep,
  kSave,
};

// Seconds. The defaults are those of RuntimeConfig.
struct WaitLimits {
  double startup = 3600, step = 600, save = 3600;
};

class Patience {
 public:
  struct Limit {
    double seconds;
    const char* field;  // of the config that sets it, "runtime.timeout_seconds"; "" if none does
    // "600 s (runtime.timeout_seconds)"
    std::string Text() const;
  };
  Limit limit() const;

  // Those of the config.
  void set_limits(const WaitLimits& limits);
  // One for all phases, whatever the config says.
  void set_seconds(double seconds);

  // Of who waits as long as is right in `phase`, whatever the job is doing; with the limits that are set by now.
  std::shared_ptr<Patience> In(Phase phase) const;

  Phase phase() const { return phase_; }
  void set_phase(Phase phase) { phase_ = phase; }

  double waited_seconds() const { return waited_seconds_; }

 private:
  friend class Waiting;
  const std::thread::id main_thread_ = std::this_thread::get_id();
  double waited_seconds_ = 0;  // the main thread's
  std::atomic<Phase> phase_ = Phase::kStartup;
  std::array<std::atomic<double>, 3> seconds_ = {WaitLimits().startup, WaitLimits().step, WaitLimits().save};
  std::atomic<bool> of_config_ = true;
};

// While it lives, its thread does nothing but wait for other ranks. Not within another.
class Waiting {
 public:
  explicit Waiting(Patience& patience) : patience_(patience) {}
  ~Waiting() {
    if (std::this_thread::get_id() != patience_.main_thread_) return;
    patience_.waited_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  Patience& patience_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace trefoil
