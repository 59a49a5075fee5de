// Fits the model of time of planner/cluster.proto to measured times.
//
//   std::vector<OpCount> samples = ...;   // of one op and dtype, at several sizes; each for ONE device (see below)
//   const OpSpeed speed = FitProducts(samples, /*peak_flops=*/45e9, /*bandwidth=*/10e9);
//   const FitErrors errors = ErrorsOf(speed, 45e9, samples);   // by how much the model is off
//
// Where several cores of a CPU computed the op together, a sample's flops and bytes are divided by their number
// (PerDevice): the model's peak and bandwidth are one core's. An op's overhead, which more cores do not make shorter,
// is not.
//
// All fits minimise the sum of squared logarithms of model over measurement, by the downhill simplex method (Nelder &
// Mead 1965): ten per cent count the same for 10 us as for 10 ms.
// Threads: pure functions.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "planner/cluster.pb.h"
#include "planner/op_seconds.h"
#include "runtime/device.h"

namespace trefoil {

// Each sets overhead_us and what is named; samples need at least two sizes. Values are rounded to four digits.
// `bandwidth`: bytes per second of the memory; the search for an op's starts near it, and what it finds is between a
// tenth and twenty times of that. One that limits no sample means nothing.
//
// Products: efficiency, the three halves, gbytes_per_second.
OpSpeed FitProducts(std::span<const OpCount> samples, double peak_flops, double bandwidth);
// Attention: efficiency, gbytes_per_second.
OpSpeed FitFlops(std::span<const OpCount> samples, double peak_flops, double bandwidth);
// Other ops: gbytes_per_second.
OpSpeed FitBytes(std::span<const OpCount> samples);
// Of (bytes, seconds).
Link FitLink(std::span<const std::pair<double, double>> messages);

// How far the model is from the samples: 0.1 is ten per cent too long or too short.
struct FitErrors {
  double median = 0, worst = 0;
  size_t worst_sample = 0;  // its index
};
FitErrors ErrorsOf(const OpSpeed& speed, double peak_flops, std::span<const OpCount> samples);

// x to four significant digits.
double FourDigits(double x);

}  // namespace trefoil
