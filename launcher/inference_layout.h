// The layout that flags --tensor, --pipeline and --precision ask for (launcher/flags/layout.h).
//
//   TREFOIL_ASSIGN_OR_RETURN(const InferenceLayout layout, LayoutOfFlags(model, world.size(), Copies::kNone));
#pragma once

#include "model/model.pb.h"
#include "runtime/status.h"
#include "training/inference/predictor.h"

namespace trefoil {

// Whether more ranks than one copy of the model takes are copies that share the work, or too many.
enum class Copies { kNone, kAllowed };

// Of a complete model config. What is left open: tensor as large as ranks and model allow and the pipeline what that leaves;
// where copies are allowed 1 each.
// Failure: all that is wrong, each with the nearest legal value.
absl::StatusOr<InferenceLayout> LayoutOfFlags(const ModelConfig& model, int ranks, Copies copies);

}  // namespace trefoil
