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
// Threads: all functions may be called from any; the phase is the rank's, so one thread changes it.
#pragma once

#include <array>
#include <atomic>
#include <string>

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

  Phase phase() const { return phase_; }
  void set_phase(Phase phase) { phase_ = phase; }

 private:
  std::atomic<Phase> phase_ = Phase::kStartup;
  std::array<std::atomic<double>, 3> seconds_ = {WaitLimits().startup, WaitLimits().step, WaitLimits().save};
  std::atomic<bool> of_config_ = true;
};

}  // namespace trefoil
