// The manifest: what is where in a checkpoint folder. Internal to checkpoint/.
//
// It is JSON, so that people and scripts can read it, in a fixed arrangement of lines (manifest.cc has the grammar):
// every name once, slices as plain numbers, and a CRC32C of all that precedes it at the end.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "parallel/sharded_tensor.h"
#include "runtime/status.h"

namespace trefoil {

// Written. Read are this one and those before it.
inline constexpr int kManifestVersion = 2;
inline constexpr char kManifestFile[] = "manifest.json";

// "rank-00003.bin"
std::string DataFileName(int rank);
// "[8, 0]+[2, 3]": offset and extent, for messages.
std::string ToString(const Box& box);

// A slice of so many bytes has a checksum for each chunk of so many of them (the last may be shorter): 1 MiB, or as many
// MiB as make at most 64 chunks, so that a part of a slice can be read for little more than its bytes, and the manifest
// of large slices stays small.
int64_t ChunkBytes(int64_t slice_bytes);

struct ManifestSlice {
  int32_t rank = 0;         // that wrote it: names the file
  int64_t byte_offset = 0;  // in the file
  Box box;
  int64_t chunk_bytes = 0;
  std::vector<uint32_t> crcs;  // CRC32C of each chunk
};

struct ManifestTensor {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;                        // global
  std::vector<ManifestSlice> slices;  // disjoint, together the whole tensor
};

// While they are put together.
using TensorsByName = std::map<std::string, ManifestTensor>;
// The tensor of that name, made if it is new; one of another dtype or shape is CHECKed.
ManifestTensor& TensorNamed(TensorsByName& tensors, const std::string& name, DType dtype, const Shape& shape);
std::vector<ManifestTensor> ValuesOf(TensorsByName tensors);

struct Manifest {
  int64_t step = 0;
  std::string trainer_state, model;
  std::map<int, int64_t> file_bytes;    // by rank; a rank that had nothing to write has no file
  std::vector<ManifestTensor> tensors;  // sorted by name
};

std::string EncodeManifest(const Manifest& manifest);
// `path` is for messages. Checks everything that reading relies on: the checksum, the version, that slices lie within
// their tensor and their bytes within their file, and that they are disjoint and together the whole tensor.
absl::StatusOr<Manifest> DecodeManifest(const std::string& text, const std::string& path);

// For messages between ranks, which check nothing: a tenth of the time and half of the size.
std::string PackManifest(const Manifest& manifest);
Manifest UnpackManifest(const std::string& packed);

// Why the slices are not disjoint and together the whole tensor; empty if they are.
std::string TilingError(const ManifestTensor& tensor);

}  // namespace trefoil
