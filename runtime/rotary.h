// How fast rotary positions turn: the frequencies of the pairs of a head, and how they are scaled for sequences longer
// than those that a model was first trained on. The op is in runtime/ops.h; it takes the powers in double on every device,
// and scales them by the one function here.
//
//   Rotary(device, FusedHeads(qkv, shape).q, 12, 64, tokens, {.theta = 10000}, /*inverse=*/false);
//
// Pair i of the D/2 of a head turns by position * f, where f = theta^(-2i/D) (Su et al. 2021), or, scaled by a factor,
//
//   (1 - g) f + g f / factor,  g in [0, 1]
//
//   kAll      g = 1: positions are interpolated (Chen et al. 2023)
//   kByTurns  g falls from 1 where a pair makes at most `low` turns in original_length to 0 where it makes `high` or more
//             (Dubey et al. 2024)
//   kByPair   g rises from 0 at pair number `low` to 1 at `high` (YaRN: Peng et al. 2023)
//
// Threads: plain values.
#pragma once

#include <cstdint>

namespace trefoil {

struct RotaryFrequencies {
  float theta = 10000;
  enum class Scaling { kNone, kAll, kByTurns, kByPair } scaling = Scaling::kNone;
  double factor = 1;
  double low = 0, high = 1;
  double original_length = 0;
  // Of what is turned, beside its turning: turned back it is multiplied once more, as a gradient is.
  double magnitude = 1;

  // Of pair number `pair`, from theta^(-2i/D).
  constexpr double Scaled(double frequency, int64_t pair) const {
    if (scaling == Scaling::kNone) return frequency;
    const double share = Share(frequency, pair);
    return (1 - share) * frequency + share * (frequency / factor);
  }

 private:
  constexpr double Share(double frequency, int64_t pair) const {
    constexpr double kTurn = 6.283185307179586;
    if (scaling == Scaling::kAll) return 1;
    const double at = scaling == Scaling::kByTurns ? (high - original_length * frequency / kTurn) / (high - low)
                                                   : (static_cast<double>(pair) - low) / (high - low);
    return at < 0 ? 0 : at > 1 ? 1 : at;
  }
};

}  // namespace trefoil
