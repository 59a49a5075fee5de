// `trefoil inspect PATH`: looks into what the other commands write and read, and changes nothing.
//
//   InspectOptions options = {.path = "runs/a", .verify = true};
//   TREFOIL_RETURN_IF_ERROR(Inspect(FileSystem::Posix(), options, std::cout));
//
// What PATH is, is told by what is there:
//   a run folder (config.pbtxt)            what runs there, its last step and loss, its checkpoints
//   a checkpoint (manifest.json)           step, model, trainer state, parameters by name, size
//   a run's folder checkpoints             those in there
//   token files: PREFIX, PREFIX.bin, .idx, a pattern of them, or their folder
//                                          documents, tokens, lengths, a sample as text; of records
//                                          (`trefoil tokenize --records`) their parts, labels, lengths, some as text
//   image files: x.images, a pattern of them, or their folder
//                                          number, size, classes and how many of each; verified, mean and deviation
//   a tokenizer (x.model)                  its vocabulary and pieces, and how a text is encoded
//
// Failure: names what is not there or not readable; DataLoss for what is damaged, after all of it was looked at.
// Threads: one.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct InspectOptions {
  std::string path;
  bool verify = false;    // read every byte and check it: checksums of a checkpoint and of images, ids of token files
  int64_t document = 0;   // of token files: which one to show; of records: the first of those shown
  std::string text = "";  // to encode, with a tokenizer; empty: none
  std::string tokenizer = "";  // for token files; empty: that beside them
};

absl::Status Inspect(FileSystem& fs, const InspectOptions& options, std::ostream& out);

}  // namespace trefoil
