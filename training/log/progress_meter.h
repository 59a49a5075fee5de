// The console's line of a step, and how long the run will take:
//
//   step   40/500  loss 5.2500  norm 1.500  lr 3.00e-04  2048 tokens/s  1.00 GFLOP/s  MFU 25.0%  ETA 0:03:50
//
//   ProgressMeter meter({.steps = 500, .evaluate_every = 100, .save_every = 200});
//   ... after each step:
//   if (logged) std::puts(meter.Line(metrics).c_str());
//   ... after an evaluation and a save:
//   meter.Evaluated(seconds);
//   meter.Saved(seconds);
//
// Tokens/s (of images "40.0 images/s"), FLOP/s and MFU are of that one step and of training only. The time left has,
// besides steps by a moving average of their time, the evaluations and saves to come, each by the mean of those so
// far. Waiting is shown where it takes a tenth of the step or more ("data 12%", "communication 34%"), MFU of the
// measured peak beside that of the vendor's.
#pragma once

#include <cstdint>
#include <string>

#include "training/log/metrics.h"

namespace trefoil {

// What a run does, and how often: after each so many steps (0: never) and after the last.
struct RunLength {
  int64_t steps = 0;
  bool evaluates = false;  // at all
  int64_t evaluate_every = 0;
  int64_t save_every = 0;
  bool images = false;  // samples are images, whose speed is told by their number and not by that of their patches
};

class ProgressMeter {
 public:
  explicit ProgressMeter(const RunLength& length) : length_(length) {}

  // Called for every step, after its evaluation and before its save.
  void Stepped(int64_t step, double seconds);
  void Evaluated(double seconds) { evaluations_.Add(seconds); }
  void Saved(double seconds) { saves_.Add(seconds); }

  // Of the step that was stepped last.
  std::string Line(const StepMetrics& metrics) const;
  double SecondsLeft() const;
  // "about 9 hours: 600000 steps of 54 ms", once a few steps are done.
  std::string Length() const;

 private:
  struct Mean {
    double sum = 0;
    int64_t count = 0;
    void Add(double seconds) { sum += seconds, ++count; }
    double value() const { return count > 0 ? sum / static_cast<double>(count) : 0; }
  };

  const RunLength length_;
  int64_t step_ = 0, steps_seen_ = 0;
  double seconds_per_step_ = 0;
  Mean evaluations_, saves_;
};

}  // namespace trefoil
