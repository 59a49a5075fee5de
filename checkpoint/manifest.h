// manifest.json: what a checkpoint is, which tensors it has, and the parts of the manifest that say where their slices
// are. Internal to checkpoint/.
//
// Each rank that saves writes a part of its own about its own slices (checkpoint/part.h); this one names the parts, with
// sizes and checksums, so that whoever has it knows whether a part and a data file are those that were written. Its size
// grows as the tensors and as the ranks, a line or a few numbers each, not as their product. It is JSON, so that people
// and scripts can read it, in a fixed arrangement of lines (manifest.cc has the grammar).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/packed.h"
#include "checkpoint/slices.h"
#include "runtime/status.h"

namespace trefoil {

inline constexpr char kManifestFile[] = "manifest.json";

struct PartEntry {
  int rank = 0;
  int64_t file_bytes = 0;  // of rank-NNNNN.bin
  int64_t part_bytes = 0;  // of rank-NNNNN.json, and the CRC32C of all of them; before version 3 there is none
  uint32_t part_crc = 0;
};

struct TensorEntry {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;        // global
  int64_t bands = 1;  // into which its rows are divided to look slices up (checkpoint/slice_directory.h)
};

struct Manifest {
  int64_t step = 0;
  std::string trainer_state, model;
  std::vector<PartEntry> parts;      // by rank; one that had nothing to write has none
  std::vector<TensorEntry> tensors;  // sorted by name
  // Whether the slices are in parts; else, before version 3, the manifest has them itself, all of them.
  bool has_parts = true;
  std::vector<ManifestTensor> slices;

  std::map<int, int64_t> FileBytes() const;
};

// Of one whose slices are in parts.
std::string EncodeManifest(const Manifest& manifest);
// `path` is for messages. Checks everything that reading relies on: the checksum, the version, that names ascend, that the
// tensors have as many bytes as the data files, and no more bands than the parts have bytes; where it has the slices, that
// they lie within their tensor and their bytes within their file, are disjoint and together the whole tensor.
absl::StatusOr<Manifest> DecodeManifest(const std::string& text, const std::string& path);

// DataLoss unless the slices in `tensors`, sorted by name, are disjoint and together all of every tensor of the manifest.
absl::Status CheckTiling(const Manifest& manifest, const std::vector<ManifestTensor>& tensors);

// For messages between ranks; a manifest without the slices.
void Pack(const PartEntry& part, Packer* packer);
PartEntry UnpackPart(Unpacker* unpacker);
std::string PackManifest(const Manifest& manifest);
Manifest UnpackManifest(const std::string& packed);

}  // namespace trefoil
