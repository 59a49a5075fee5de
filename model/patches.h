// How images become rows: a grid of patches, row by row, and a class token before them.
//
// Threads: pure functions of a filled config of VIT.
#pragma once

#include <cstdint>

#include "model/model.pb.h"

namespace trefoil {

// Of an image.
inline int64_t ImagePatches(const ModelConfig& config) {
  const int64_t side = config.patch_size() > 0 ? config.image_size() / config.patch_size() : 0;
  return side * side;
}
// Places of an image: its patches, from 1, and place 0, the class token's.
inline int64_t ImagePlaces(const ModelConfig& config) { return 1 + ImagePatches(config); }
// Of a patch (P): channel by channel, row by row.
inline int64_t PatchValues(const ModelConfig& config) {
  return int64_t{config.channels()} * config.patch_size() * config.patch_size();
}

}  // namespace trefoil
