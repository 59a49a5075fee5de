// Image files put end to end: one data set of labelled images.
//
//   TREFOIL_ASSIGN_OR_RETURN(const ImageSet set, ImageSet::Open({"pets/train-*"}));
//   std::vector<uint8_t> image(set.format().bytes());
//   TREFOIL_RETURN_IF_ERROR(set.Read(set.images() - 1, image));
//
// The files are sorted by path and have one format: size, channels and classes.
//
// Each file stays open: a file descriptor a file, and 4 bytes an image. Movable. Threads: const calls from any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/images/image_file.h"
#include "runtime/status.h"

namespace trefoil {

class ImageSet {
 public:
  // Each of `globs` is a path or a shell pattern ("pets/train-*" finds pets/train-00000.images), with or without
  // .images at its end; a file that is there is that file even where its name has a pattern's characters. A file
  // matched twice counts once.
  //
  // Failure: a pattern that matches nothing, a file that image_file.h rejects, files of different formats.
  static absl::StatusOr<ImageSet> Open(const std::vector<std::string>& globs, FileSystem& fs = FileSystem::Posix());

  const ImageFormat& format() const { return files_.front().format(); }
  int64_t images() const { return starts_.back(); }
  const std::vector<ImageFile>& files() const { return files_; }
  // Of image `index`, in [0, images()).
  int32_t label(int64_t index) const;
  // "pets/train-00003.images: image 17", for messages.
  std::string Describe(int64_t index) const;
  // Copies image `index`. Failure: as ImageFile::Read.
  absl::Status Read(int64_t index, std::span<uint8_t> out) const;

 private:
  ImageSet() = default;
  size_t FileOf(int64_t index) const;

  std::vector<ImageFile> files_;
  std::vector<int64_t> starts_;  // image number in the set where each file begins, then the total
};

}  // namespace trefoil
