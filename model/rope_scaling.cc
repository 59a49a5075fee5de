#include "model/rope_scaling.h"

#include <algorithm>
#include <cmath>

namespace trefoil {
namespace {

constexpr double kPi = 3.14159265358979323846;

// The number of the pair, not whole, that makes so many turns in the original length.
double PairOf(const ModelConfig& config, double turns) {
  const double positions = config.rope_scaling().original_length() / (2 * kPi * turns);
  return config.head_dim() * std::log(positions) / (2 * std::log(static_cast<double>(config.rope_theta())));
}

}  // namespace

RotaryFrequencies RotaryFrequenciesOf(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling();
  RotaryFrequencies frequencies = {.theta = config.rope_theta()};
  if (scaling.kind() == RopeScaling::KIND_UNSET) return frequencies;
  frequencies.factor = scaling.factor();
  frequencies.original_length = scaling.original_length();
  switch (scaling.kind()) {
    case RopeScaling::LLAMA3:
      frequencies.scaling = RotaryFrequencies::Scaling::kByTurns;
      frequencies.low = scaling.low_frequency_factor();
      frequencies.high = scaling.high_frequency_factor();
      break;
    case RopeScaling::YARN:
      frequencies.scaling = RotaryFrequencies::Scaling::kByPair;
      frequencies.low = std::max(std::floor(PairOf(config, scaling.beta_fast())), 0.0);
      frequencies.high = std::min(std::ceil(PairOf(config, scaling.beta_slow())), config.head_dim() - 1.0);
      // A ramp of no width is a step.
      frequencies.high = std::max(frequencies.high, frequencies.low + 1e-3);
      frequencies.magnitude = scaling.attention_factor();
      break;
    default:
      frequencies.scaling = RotaryFrequencies::Scaling::kAll;
  }
  return frequencies;
}

}  // namespace trefoil
