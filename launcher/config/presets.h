// The files that are built into the program, so that `--config=gpt2_124m` and `--cluster=dgx_a100` work from anywhere:
// those of launcher/config/presets, a folder after the other, and of planner/clusters, in the order of their names.
#pragma once

#include <span>

namespace trefoil {

struct Preset {
  const char* name;  // "gpt2_124m"
  const char* text;  // the whole file; its first line is a comment that describes it
};

std::span<const Preset> Presets();   // training/run.proto
std::span<const Preset> Clusters();  // planner/cluster.proto

}  // namespace trefoil
