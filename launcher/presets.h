// The configs that are built into the program, so that `--config=gpt2_124m` works from anywhere: the files of
// launcher/configs, in the order of their names.
#pragma once

#include <span>

namespace trefoil {

struct Preset {
  const char* name;  // "gpt2_124m"
  const char* text;  // the whole file; its first line is a comment that describes it
};

std::span<const Preset> Presets();

}  // namespace trefoil
