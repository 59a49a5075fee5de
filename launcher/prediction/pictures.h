// Picture files as a network of patches reads them, whatever their size: scaled to just cover the model's image size, the
// middle kept, as `trefoil images` packs them and as held-out images are read.
//
// Threads: one.
#pragma once

#include <span>
#include <string>

#include "data/batch.h"
#include "runtime/files/file.h"
#include "runtime/status.h"
#include "training/run.pb.h"

namespace trefoil {

// A batch with a sample for each. Failure: a file that cannot be read, or is no PNG or JPEG.
absl::StatusOr<Batch> ReadPictures(FileSystem& fs, const ModelConfig& model, const TaskConfig& task,
                                   std::span<const std::string> paths);

}  // namespace trefoil
