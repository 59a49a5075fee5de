// safetensors files: named tensors, laid out by a JSON header, as Hugging Face's folders have them.
//
//   u64 n, little-endian | n bytes of JSON | elements to the end of the file
//   {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//
// Offsets count from behind the header. A folder has one file, model.safetensors, or several that an index names:
// model.safetensors.index.json, {"metadata": {"total_size": bytes}, "weight_map": {tensor: file}}.
//
// Reading believes nothing: the header is at most 100 MB and within the file, names are given once, the tensors tile
// the elements without a gap or an overlap, and have as many bytes as dtype and shape say.
//
// Threads: as exchange/foreign_tensors.h; writing on one.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "exchange/foreign_tensors.h"
#include "runtime/files/file.h"

namespace trefoil {

// `path`: a file, or a folder with model.safetensors or an index. `fs` must outlive it. Failure: nothing of the kind is
// there; a file that breaks a rule above; an index that names a file outside of the folder, or that lists other tensors
// than its files have.
absl::StatusOr<std::unique_ptr<ForeignTensors>> OpenSafetensors(FileSystem& fs, const std::string& path);

// Where each tensor of a file is to go, decided before anything is written.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t bytes() const;
};

// Writes a file from its beginning to its end.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto writer, SafetensorsWriter::Create(fs, path, entries));
//   for (...) TREFOIL_RETURN_IF_ERROR(writer->Append(bytes));      // the entries' elements, one after the other
//   TREFOIL_RETURN_IF_ERROR(writer->Close());                      // CHECKs that they were all there
class SafetensorsWriter {
 public:
  // The header has {"format": "pt"} as its metadata, without which older readers refuse the file, and is padded with
  // spaces so that elements begin at a multiple of 8.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(FileSystem& fs, const std::string& path,
                                                                   std::span<const SafetensorsEntry> entries);
  absl::Status Append(std::span<const std::byte> bytes);
  absl::Status Close();

 private:
  std::unique_ptr<WritableFile> file_;
  int64_t left_ = 0;
};

inline constexpr char kSafetensorsFile[] = "model.safetensors";
inline constexpr char kSafetensorsIndex[] = "model.safetensors.index.json";
// "model-00002-of-00005.safetensors": file `number`, from 0, of `files`; of one kSafetensorsFile.
std::string SafetensorsShard(int number, int files);
// The text of an index.
std::string SafetensorsIndexText(const std::map<std::string, std::string>& file_of_tensor, int64_t total_bytes);

}  // namespace trefoil
