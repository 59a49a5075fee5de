// Starting a run from the weights of another, with a fresh optimizer: training.checkpoint.initial_weights.
//
//   TREFOIL_RETURN_IF_ERROR(CheckInitialWeights(reader, path, config.model()));           // before memory is taken
//   TREFOIL_ASSIGN_OR_RETURN(const std::string line, LoadInitialWeights(fs, worker, path));
//
// The networks must be one but for their ends: another head, another number of classes, another pooling; a masked
// autoencoder's decoder (He et al. 2022) is left behind; sequences may be of other lengths where positions are not
// learned, and shorter ones where they are, which have the first rows of the table. A parameter of the new model that
// the other has in that shape is read. The rest get their random initial values (ParameterStore::Initialize), the same
// on every layout. Low-rank adapters are new unless the other has the same.
//
// Threads: the rank's main thread.
#pragma once

#include <string>

#include "checkpoint/reader.h"
#include "runtime/files/file.h"
#include "training/worker.h"

namespace trefoil {

// An error that names every field in which the checkpoint's model differs so that its weights mean nothing in `model`.
// `path`: the checkpoint's, for the message.
absl::Status CheckInitialWeights(const CheckpointReader& reader, const std::string& path, const ModelConfig& model);

// Fills the worker's weights; the optimizer's state stays zero. Returns a line for people: "Starting from the weights
// of PATH (step 400): 38 parameters are taken; 2 are new, at random: head.*; 5 of its own are not used:
// head.transform.*." Every rank of the job makes the same call and gets the same Status.
absl::StatusOr<std::string> LoadInitialWeights(FileSystem& fs, Worker& worker, const std::string& path);

}  // namespace trefoil
