// Slices as they were saved: which box of a global tensor lies where, and with which checksums. Internal to checkpoint/.
//
// Threads: plain values and pure functions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "parallel/sharded_tensor.h"

namespace trefoil {

// "rank-00003.bin", "rank-00003.json"
std::string DataFileName(int rank);
std::string PartFileName(int rank);
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

// All of a tensor's slices, or those that somebody knows of.
struct ManifestTensor {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;  // global
  std::vector<ManifestSlice> slices;
};

// While they are put together.
using TensorsByName = std::map<std::string, ManifestTensor>;
// The tensor of that name, made if it is new; one of another dtype or shape is CHECKed.
ManifestTensor& TensorNamed(TensorsByName& tensors, const std::string& name, DType dtype, const Shape& shape);
// Sorted by name.
std::vector<ManifestTensor> ValuesOf(TensorsByName tensors);

// The one of that name in a list sorted by name; null if there is none.
template <typename Named>
const Named* FindNamed(const std::vector<Named>& sorted, const std::string& name) {
  const auto it = std::lower_bound(sorted.begin(), sorted.end(), name,
                                   [](const Named& named, const std::string& n) { return named.name < n; });
  return it != sorted.end() && it->name == name ? &*it : nullptr;
}

// All of a tensor.
Box WholeOf(const Shape& shape);
// False if they have no element in common; else `both` is what they have.
bool Intersect(const Box& a, const Box& b, Box* both);

// Why the boxes, each of which lies within `region`, are not disjoint and together all of it; empty if they are.
std::string TilingError(const Box& region, std::span<const Box> boxes);
// Of a tensor's slices.
std::string TilingError(const ManifestTensor& tensor);

}  // namespace trefoil
