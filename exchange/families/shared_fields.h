// What configs of several families have in common.
//
// Threads: pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "exchange/config_fields.h"
#include "exchange/families/family.h"
#include "model/model.pb.h"
#include "runtime/status.h"

namespace trefoil {

// The activation function of the MLP, by transformers' names: gelu, gelu_new, relu, silu ... `word` is what the field
// `name` says.
void SetActivation(ConfigFields& fields, const std::string& name, const std::string& word, ModelConfig* model);
void ReadActivation(ConfigFields& fields, const std::string& name, const std::string& otherwise, ModelConfig* model);
// Of a filled model.
std::string ActivationName(const ModelConfig& model);

// What a family's networks have; left out: either.
struct Says {
  std::optional<bool> qkv_bias = {}, output_bias = {}, mlp_bias = {}, gated = {}, qk_norm = false;
  bool heads_fill_hidden = false;  // no heads of another width, no fewer heads of keys and values
};
// An error that lists in what a model differs.
absl::Status CheckSays(const ModelConfig& model, const char* family, const Says& says);

// Probabilities of dropping, which must be one number; of attention and of the rest.
void ReadDropout(ConfigFields& fields, const std::vector<std::string>& names, double otherwise, ModelConfig* model);

// rope_theta and rope_scaling of files before transformers 5, or rope_parameters since; the second counts.
void ReadRotary(ConfigFields& fields, double theta, ModelConfig* model);
// Both.
void WriteRotary(const ModelConfig& model, nlohmann::json* config);

// The classes of a head: id2label, and num_labels or 2.
void ReadClasses(ConfigFields& fields, ForeignModel* model);
void WriteClasses(const ForeignModel& model, nlohmann::json* config);

// The double whose shortest decimal digits are those of the float: 1e-5f as 1e-5.
double ShortestDouble(float value);

}  // namespace trefoil
