// What configs of several families have in common.
//
// Threads: pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "exchange/config_fields.h"
#include "exchange/families/family.h"
#include "model/model.pb.h"
#include "runtime/status.h"

namespace trefoil {

// The activation function of the MLP, by transformers' names: gelu, gelu_new, relu, silu ...
void ReadActivation(ConfigFields& fields, const std::string& name, const std::string& otherwise, ModelConfig* model);
absl::StatusOr<std::string> ActivationName(const ModelConfig& model);

// Probabilities of dropping, which must be one number; of attention and of the rest.
void ReadDropout(ConfigFields& fields, const std::vector<std::string>& names, double otherwise, ModelConfig* model);

// rope_theta and rope_scaling of files before transformers 5, or rope_parameters since; the second counts.
void ReadRotary(ConfigFields& fields, double theta, ModelConfig* model);
// Both.
absl::Status WriteRotary(const ModelConfig& model, nlohmann::json* config);

// The classes of a head: id2label, and num_labels or 2.
void ReadClasses(ConfigFields& fields, ForeignModel* model);
void WriteClasses(const ForeignModel& model, nlohmann::json* config);

// The double whose shortest decimal digits are those of the float: 1e-5f as 1e-5.
double ShortestDouble(float value);

}  // namespace trefoil
