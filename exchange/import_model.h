// A model of others as a checkpoint here: a Hugging Face folder, or a GGUF file.
//
//   TREFOIL_ASSIGN_OR_RETURN(ImportSource source, OpenImport(fs, "SmolLM2-135M"));
//   ... fill source.foreign.model ...
//   TREFOIL_RETURN_IF_ERROR(ImportWeights(fs, all, source, table, storage, content, &summary));
//
// The elements go from file to file in pieces (exchange/weights_in.h): a rank holds one at a time, and ranks share
// them.
//
// Threads: the rank's main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/writer.h"
#include "exchange/families/family.h"
#include "exchange/foreign_tensors.h"
#include "parallel/collectives/group.h"
#include "parallel/parameter.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct ImportSource {
  std::string path;
  const ForeignFamily* family = nullptr;
  ForeignModel foreign;
  std::unique_ptr<ForeignTensors> tensors;
  // Of a file that has its tokenizer in it (exchange/gguf_tokenizer.h); else empty, and it lies in the folder.
  std::string tokenizer_json, tokenizer_config;
};

// Opens a folder with config.json and safetensors, or a file NAME.gguf. Only headers are read. `ignored_fields`: of the
// config, that are not to be asked about. Failure: what the readers say; a family that is not known; a config whose
// fields are wrong, or not understood, all of them in one error.
absl::StatusOr<ImportSource> OpenImport(FileSystem& fs, const std::string& path,
                                        const std::vector<std::string>& ignored_fields);

struct ImportSummary {
  int64_t parameters = 0;            // elements
  int tensors = 0;                   // there
  std::vector<std::string> missing;  // parameters of a head that there is none of
  std::vector<std::string> ignored;  // tensors that were left out
};

// Writes step-0 of the storage with the weights and no optimizer state. Every rank of `all` makes the call, with
// `content` but for its parts, and gets the same Status. `table` is of the filled model, which source.foreign has.
// `progress`, if not null, is told on rank 0 how much of its elements it has written.
absl::Status ImportWeights(FileSystem& fs, Group& all, const ImportSource& source, const ParameterTable& table,
                           const CheckpointStorage& storage, CheckpointContent content,
                           const std::function<void(int64_t done, int64_t total)>& progress, ImportSummary* summary);

}  // namespace trefoil
