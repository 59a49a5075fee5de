// IDX files, the format of MNIST and its successors (LeCun, Cortes & Burges, "The MNIST database of handwritten
// digits"): grey images and their labels, a file each, compressed (a name that ends in .gz) or not.
//
//   TREFOIL_ASSIGN_OR_RETURN(const IdxPair pair, ReadIdxPair("train-images.gz", "train-labels.gz"));
//
// Format (big-endian):
//   images := 00000803 u32 count u32 height u32 width u8 value[count][height][width]
//   labels := 00000801 u32 count u8 label[count]
// 08 is the type (u8), 03 and 01 the number of dims.
// Example: one image of 1 x 2 is 00000803 00000001 00000001 00000002 00ff; its label 7 is 00000801 00000001 07.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

// A plain value. Memory: the images as they are, unpacked.
struct IdxPair {
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> labels;
  std::string values;  // [labels.size(), height, width], 0 (background) to 255

  std::span<const uint8_t> Image(int64_t index) const {
    const auto bytes = static_cast<size_t>(height * width);
    return std::span(reinterpret_cast<const uint8_t*>(values.data()), values.size()).subspan(index * bytes, bytes);
  }
};

// Failure: a file that is no such IDX file, is cut short or has more bytes than it says; sides that image files
// (data/images/image_file.h) cannot have; another number of labels than of images; none. Threads: call from any.
absl::StatusOr<IdxPair> ReadIdxPair(const std::string& images_path, const std::string& labels_path);

}  // namespace trefoil
