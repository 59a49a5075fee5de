// PNG and JPEG files to pictures.
//
//   TREFOIL_ASSIGN_OR_RETURN(const Image image, ReadImage(fs, "pets/cat/1.jpg", /*channels=*/3));
//
// Which of the two a file is, its first bytes say, not its name. Every kind of PNG is read (palettes, 16 bits,
// interlaced; what is transparent is put on white; a gamma of its own is turned into sRGB's) and every kind of JPEG
// (progressive, CMYK); an orientation that a camera noted in it is not obeyed.
//
// Grey of colours is the luma of ITU-R BT.601, 0.299 red + 0.587 green + 0.114 blue, rounded; colour of grey has three
// equal channels.
//
// Failure: InvalidArgument for what is no such file, DataLoss for one that is cut short or damaged: no picture is made
// up from a part of one. Each names the file. Threads: pure functions of the bytes.
#pragma once

#include <string>
#include <string_view>

#include "data/images/image.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// `channels`: 1 or 3, of the result. Sides are at most ImageFormat::kLargestSide (data/images/image_file.h).
absl::StatusOr<Image> ReadImage(FileSystem& fs, const std::string& path, int64_t channels);

// The same of a file's content; `name` is for messages.
absl::StatusOr<Image> DecodeImage(const std::string& name, std::string_view content, int64_t channels);

}  // namespace trefoil
