#include "parallel/collectives/patience.h"

#include <sstream>

namespace trefoil {
namespace {

constexpr const char* kFields[] = {"runtime.startup_timeout_seconds", "runtime.timeout_seconds",
                                   "runtime.save_timeout_seconds"};

}  // namespace

std::shared_ptr<Patience> Patience::In(Phase phase) const {
  auto patience = std::make_shared<Patience>();
  patience->set_phase(phase);
  for (size_t i = 0; i < seconds_.size(); ++i) patience->seconds_[i] = seconds_[i].load();
  patience->of_config_ = of_config_.load();
  return patience;
}

Patience::Limit Patience::limit() const {
  const auto phase = static_cast<size_t>(phase_.load());
  return {.seconds = seconds_[phase], .field = of_config_ ? kFields[phase] : ""};
}

std::string Patience::Limit::Text() const {
  std::ostringstream text;
  text << seconds << " s";
  if (*field != '\0') text << " (" << field << ")";
  return text.str();
}

void Patience::set_limits(const WaitLimits& limits) {
  seconds_[static_cast<size_t>(Phase::kStartup)] = limits.startup;
  seconds_[static_cast<size_t>(Phase::kStep)] = limits.step;
  seconds_[static_cast<size_t>(Phase::kSave)] = limits.save;
  of_config_ = true;
}

void Patience::set_seconds(double seconds) {
  set_limits({.startup = seconds, .step = seconds, .save = seconds});
  of_config_ = false;
}

}  // namespace trefoil
