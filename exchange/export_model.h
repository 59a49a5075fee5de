// A checkpoint here as a folder of others: config.json, safetensors in shards with an index.
//
//   TREFOIL_RETURN_IF_ERROR(ExportModel(fs, all, reader, {.model = model}, {.dtype = "BF16"}, folder, nullptr,
//   &summary));
//
// Ranks share the shards; a rank holds 64 MiB of elements at a time, or a matrix that lies transposed there.
//
// Threads: the rank's main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "checkpoint/reader.h"
#include "exchange/families/family.h"
#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct ExportOptions {
  std::string dtype = "F32";            // or BF16, F16, to the nearest
  int64_t shard_bytes = 5'000'000'000;  // a shard has no more, unless one tensor has
};

struct ExportSummary {
  std::string model_type;
  int64_t parameters = 0;
  int64_t bytes = 0;
  int tensors = 0, files = 0;
};

// Writes into `folder`, which is there. Every rank of `all` makes the call and gets the same Status. The model is
// filled; the reader reads on every rank by itself. Failure: a model that no family of others can say; a checkpoint
// that lacks parameters; writing.
absl::Status ExportModel(FileSystem& fs, Group& all, const CheckpointReader& reader, const ForeignModel& model,
                         const ExportOptions& options, const std::string& folder,
                         const std::function<void(int64_t done, int64_t total)>& progress, ExportSummary* summary);

}  // namespace trefoil
