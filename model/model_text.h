// A model in words, for summaries and plans.
//
//   ModelInWords(config);           // "LLAMA: 6 layers, hidden 192, 6 heads (2 key/value), feed-forward 512, vocabulary 2048"
//   SampleSizeOf(config).Of(8);  // "8 x 256 tokens"
//
// Each structure says what it has: an encoder-decoder the layers of both, one of images their pixels and patches, a
// recurrent one no heads. The config must be complete (training/config/validate.h fills it).
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "model/model.pb.h"

namespace trefoil {

std::string ModelInWords(const ModelConfig& config);

// What goes through the network of a sample, and what samples are counted in.
struct SampleSize {
  std::string text;   // "256", "(512 + 114)" of an encoder-decoder; of images "196 patches", "196 patches (49 seen)"
  const char* unit;   // "tokens"; "images", in which their speed is given
  int64_t units = 0;  // of a sample: its tokens; 1 image
  bool images = false;

  // "8 x 256 tokens", "8 images of 196 patches".
  std::string Of(int64_t samples) const;
};
SampleSize SampleSizeOf(const ModelConfig& config);

}  // namespace trefoil
