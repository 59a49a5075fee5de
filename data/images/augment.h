// What chance does to an image in training, each a function of (seed, sample number of the run) and of nothing else:
// the same on every rank, after every resume, and another one each time an image comes up.
//
//   const Window window = RandomWindow(seed, sample, 256, 256, /*least_area=*/0.2, /*most_area=*/1);
//   const bool mirrored = RandomFlip(seed, sample);
//   const std::vector<int32_t> visible = RandomPatches(seed, sample, /*patches=*/196, /*count=*/49);
//
// Random numbers are those of runtime/random.h under the keys "image.window", "image.flip" and "image.patches", with
// the sample as the counter's low half. Tests freeze the values: changing them would change every resumed run.
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "data/images/resize.h"

namespace trefoil {

// A part of a picture of height x width, to be scaled to one size: its area a uniform share of the picture's in
// [least_area, most_area], which is in (0, 1]; its ratio of sides between 3/4 and 4/3, uniform in the logarithm; its
// place uniform; all rounded to whole pixels. (Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6.)
// What does not fit is drawn again, ten times; then it is the largest part with such a ratio, in the middle.
Window RandomWindow(uint64_t seed, int64_t sample, int64_t height, int64_t width, double least_area, double most_area);

// Where a part of height x width begins in a picture with `padding` black pixels put around it, in pixels of the
// picture: from -padding on. (He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2.) The
// part is no larger than the padded picture.
struct Corner {
  int64_t top = 0;
  int64_t left = 0;
};
Corner RandomCorner(uint64_t seed, int64_t sample, const ImageView& image, int64_t padding, int64_t height,
                    int64_t width);

// Whether to mirror left and right: half of the samples.
bool RandomFlip(uint64_t seed, int64_t sample);

// `count` of the patches 0, 1 .. patches - 1, each at most once, ascending; any choice is as likely as any other (to
// patches / 2^32).
std::vector<int32_t> RandomPatches(uint64_t seed, int64_t sample, int64_t patches, int64_t count);

}  // namespace trefoil
