// The learning rate of each optimizer step.
//
//   for (int64_t step = 1; step <= steps; ++step) {
//     const double rate = LearningRate(config.training().optimizer(), steps, step);
//
// With peak p, final value f = p x final_share, warm-up w, total steps n and step s counted from 1:
//
//   s <= w      p s / w                                        linear from 0; step w has the peak
//   COSINE      f + (p - f) (1 + cos(pi (s - w)/(n - w))) / 2  Loshchilov & Hutter 2017 (SGDR), eq. 5
//   LINEAR      p + (f - p) (s - w)/(n - w)
//   WSD         p up to step n - d, then linear to f; d = round(decay_share x n), at most n - w
//               (warm-up, stable, decay: Hu et al. 2024, MiniCPM, section 4)
//   CONSTANT    p
//   INVERSE_SQRT  p sqrt(w / s), w at least 1                 Vaswani et al. 2017, eq. 3: its p is 1 / sqrt(C w)
//
// Step n has the final value f exactly, and so have all steps after it; CONSTANT and INVERSE_SQRT have none. With
// w >= n there is no decay within the run: step n is still warming up.
//
// A pure function: a resumed run needs only the step.
#pragma once

#include <cstdint>

#include "training/training.pb.h"

namespace trefoil {

// `config` has its defaults filled in (training/config/validate.h); total_steps and step are at least 1.
double LearningRate(const OptimizerConfig& config, int64_t total_steps, int64_t step);

}  // namespace trefoil
