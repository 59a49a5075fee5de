// `trefoil images`: pictures to image files (data/images/image_file.h).
//
//   trefoil images --input=photos --output=pets/train --size=256                   # photos/cat/1.jpg, photos/dog/2.png
//   trefoil images --images=train-images-idx3-ubyte.gz --labels=train-labels-idx1-ubyte.gz --output=mnist/train
//
// writes pets/train-00000.images ... and pets/held_out-00000.images ... Of the first form each folder in photos is a
// class: its name is the class's, its files are PNG or JPEG; labels count the classes by name from 0. A name that
// begins with a dot is passed over. A picture is scaled to just cover size x size and its middle is kept. Of the
// second form (MNIST's, data/images/idx_file.h) classes are named 0, 1 ... up to the largest label, and images are
// kept as they are unless a size is given.
//
// Of each class's n images held_out x n, rounded, but never all, are held out, chosen by (split_seed, class name).
// Images are in the order of their classes and names (IDX: in their own), cut into files of about 256 MiB, or `shards`
// of equal numbers. Ranks share the work by files; the files are the same for any number of ranks.
//
// All is written under the output's folder's `partial` and moved to its place when everything is done.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct ImagesRun {
  std::string input;           // a folder; or else these two, of an IDX pair
  std::string images, labels;
  std::string output;          // FOLDER/NAME
  int64_t size = 0;            // height and width; 0, of IDX only: as they are
  int64_t channels = 0;        // 1 or 3; 0: 3 of pictures, and IDX has 1
  double held_out = 0;         // in [0, 0.5]
  uint64_t split_seed = 1;
  int64_t shards = 0;          // files of training images; 0: by their size
  bool overwrite = false;      // replace FOLDER/NAME-*.images, and with held-out ones FOLDER/held_out-*.images
};

// Every rank of the group calls this with the same `run`; rank 0 shows progress and prints the summary to `out`.
// Returns the same on every rank. Failure: what is missing or contradicts itself, a file that is no picture or
// damaged, a class without pictures; nothing is left of the output.
absl::Status RunImages(FileSystem& fs, const ImagesRun& run, Group& group, std::ostream& out);

}  // namespace trefoil
