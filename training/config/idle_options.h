// Options that a config gives and that do nothing in it, so that nobody waits for their effect: legal, but said.
//
//   for (const std::string& line : IdleOptions(given, filled)) ...
//
// gives, for example,
//   training.evaluate_every_steps: 1000 has no effect without data.held_out
//
// What cannot be meant at all is a rule of training/config/validate.h instead; these come about when a preset meets a
// command line. Pure function.
#pragma once

#include <string>
#include <vector>

#include "training/run.pb.h"

namespace trefoil {

// `given`: as the user wrote it, presets included; `filled`: the same with its defaults (training/config/validate.h),
// legal.
std::vector<std::string> IdleOptions(const RunConfig& given, const RunConfig& filled);

}  // namespace trefoil
