// GGUF files, ggml's: a model with its config and tokenizer in one file, mostly of weights in blocks with scales of
// their own (exchange/number_formats.h).
//
//   "GGUF", u32 version 3 (or 2), u64 tensors, u64 entries
//   entries:  string key, u32 type, value          string: u64 bytes, UTF-8; list: u32 type, u64 count, values
//   tensors:  string name, u32 dims, u64 dim ... (innermost first), u32 format, u64 offset
//   elements, from the next multiple of general.alignment (32) on; offsets count from there
//
// All numbers are little-endian. Reading believes no count and no offset beyond what the file has room for.
//
// Threads: as exchange/foreign_tensors.h.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "exchange/foreign_tensors.h"
#include "runtime/files/file.h"

namespace trefoil {

// `metadata` gets an object with a member for each entry: numbers, words, truth values and lists of them. `fs` must
// outlive the result.
absl::StatusOr<std::unique_ptr<ForeignTensors>> OpenGguf(FileSystem& fs, const std::string& path,
                                                         nlohmann::json* metadata);

}  // namespace trefoil
