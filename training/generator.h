// Text from a trained model, a token at a time.
//
//   Generator generator(model, *world, *device);
//   TREFOIL_RETURN_IF_ERROR(generator.Load(fs, "runs/a/checkpoints/step-00000500"));
//   std::vector<float> logits = generator.NextLogits(ids);
//   int32_t next = ChooseToken(logits, {.temperature = 0.8f, .top_k = 40}, seed, position);
//
// The context is computed anew for each token; it holds the last sequence_length tokens at most. One rank; float32.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "training/worker.h"

namespace trefoil {

class Generator {
 public:
  // World of one rank; it and the device outlive the generator. The model config is complete.
  Generator(const ModelConfig& model, World& world, Device& device);
  absl::Status Load(FileSystem& fs, const std::string& checkpoint_folder);
  // Logits [V] of the token after `ids` (at least one).
  std::vector<float> NextLogits(std::span<const int32_t> ids);

 private:
  const ModelConfig model_;
  Device& device_;
  const ParameterTable table_;
  const StagePlace place_;
  const std::unique_ptr<Group> group_;
  ParameterStore store_;
  Transformer transformer_;
};

struct Sampling {
  float temperature = 1;  // logits are divided by it; 0: always the likeliest token
  int32_t top_k = 0;      // only the k likeliest; 0: all
  float top_p = 1;        // only the likeliest that together have this probability (Holtzman et al. 2020)
};

// The token drawn at `position` of a text with `seed`: a function of its arguments.
int32_t ChooseToken(std::span<const float> logits, const Sampling& sampling, uint64_t seed, uint64_t position);

}  // namespace trefoil
