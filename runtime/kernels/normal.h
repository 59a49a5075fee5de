// The distribution function of the standard normal, for every device.
#pragma once

namespace trefoil {

inline constexpr float kNormalDensity = 0.3989422804f;  // 1 / sqrt(2 pi), the density at 0
inline constexpr float kNormalTail = 0.3f;

// Phi(x), from exponential = exp(-x^2 / 2) and t = 1 / (1 + kNormalTail |x|): the tail Phi(-|x|) is exponential * t
// times a polynomial in t (the form of Hastings 1955; a minimax fit, within 1.5e-7 of the tail for |x| <= 14, behind
// which a float is 0). Rounding adds some units in the last place, and the exponential what it is off.
constexpr float NormalDistribution(float x, float exponential, float t) {
  float p = 0.035674773f;
  p = p * t - 0.157203078f;
  p = p * t + 0.206353500f;
  p = p * t - 0.0536836423f;
  p = p * t + 0.128561631f;
  p = p * t + 0.0999134928f;
  p = p * t + 0.120753959f;
  p = p * t + 0.119629301f;
  const float tail = exponential * (t * p);
  return x < 0.0f ? tail : 1.0f - tail;
}

}  // namespace trefoil
