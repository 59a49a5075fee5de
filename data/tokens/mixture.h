// Which source does sample k of a run come from, when sources are mixed by weight?
//
//   Mixture mixture({0.7, 0.2, 0.1});
//   mixture.At(0);                  // {.source = 0, .number = 0}: the first sample of source 0
//   mixture.At(1);                  // {.source = 1, .number = 0}
//   mixture.CountBefore(0, 1000);   // 700: of the first 1000 samples, those of source 0
//
// A pure function of (weights, k), as data/sampler.h is of (seed, k): the same for every number of ranks, length of the
// run and resume. Sample after sample goes to the source that is furthest below its quota, which is its share of the
// samples so far, this one included; of equals the first. So each batch is mixed about as the whole: at any moment each
// source has had its quota to within a few samples (Tijdeman, "The chairman assignment problem", Discrete Mathematics
// 32, 1980, treats such orders). The order repeats after kPeriod samples, whose choices are kept in a table, so that a
// source's share is met to within 1 / kPeriod in the long run. The table's values are frozen by a test: changing them
// would change every resumed run.
//
// Threads: const, share freely.
#pragma once

#include <cstdint>
#include <vector>

namespace trefoil {

class Mixture {
 public:
  static constexpr int64_t kPeriod = int64_t{1} << 16;
  // A source's least share of the weights' sum, which gives it a few samples in each period.
  static constexpr double kLeastShare = 1e-4;

  // One weight a source, relative, at least 1; each positive and at least kLeastShare of their sum.
  explicit Mixture(const std::vector<double>& weights);

  struct Place {
    int source;
    int64_t number;  // of the sample among those of its source
  };
  // Of sample k >= 0 of the run.
  Place At(int64_t k) const;
  // Samples of a source among the first k.
  int64_t CountBefore(int source, int64_t k) const;

 private:
  struct Choice {
    int32_t source;
    int32_t number;  // in the period
  };
  std::vector<Choice> choices_;         // [kPeriod]; empty with one source
  std::vector<int64_t> period_counts_;  // of each source
};

}  // namespace trefoil
