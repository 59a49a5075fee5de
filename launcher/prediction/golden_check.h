// Whether a model says what another program says of the same input: golden.safetensors, a file beside the model that
// the other program has written.
//
//   ids            I32 [B, T]       tokens that are read; of an encoder-decoder the encoder's
//   decoder_ids    I32 [B, U]       tokens that a decoder reads besides
//   segments       I32 [B, T]       0 or 1, of an encoder; may be missing
//   pixels         F32 [B, channels, height, width]    of a model of images
//   logits         F32 [B, T, V], of a decoder [B, U, V], of classes of a sample [B, K]
//
// Values compared are log-probabilities: of logits what a softmax takes away is not looked at. Of numbers, themselves.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/files/file.h"
#include "runtime/status.h"
#include "training/inference/predictor.h"

namespace trefoil {

inline constexpr char kGoldenFile[] = "golden.safetensors";

struct GoldenComparison {
  int64_t rows = 0;       // distributions, or samples
  double difference = 0;  // the largest of any value
  std::string where;      // "row 3 of sample 1"
};

// `path`: the file. Failure: one that is not there, or lacks what the model is asked.
absl::StatusOr<GoldenComparison> CompareWithGolden(FileSystem& fs, const std::string& path, Predictor& predictor);

}  // namespace trefoil
