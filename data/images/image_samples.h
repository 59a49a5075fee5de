// Images to batches: of patches and labels for a classifier, or of visible patches and hidden pixels for an
// autoencoder.
//
//   const ImageOptions options = {.patch_size = 16, .crop = ImageOptions::Crop::kScaled, .flip = true};
//   TREFOIL_ASSIGN_OR_RETURN(auto samples, ImageSamples::Open({"pets/train-*"}, options, seed));
//   TREFOIL_ASSIGN_OR_RETURN(Batch batch, samples->Get(/*first_sample=*/0, /*count=*/8));
//   batch.patches        // [8, T, P]
//
// Sample k of the run is an image that data/sampler.h chooses for (seed, k), cut or scaled to the image size as `crop`
// says, mirrored if `flip` wants it and chance says so (data/images/augment.h), its values normalised and cut into N patches
// of patch_size x patch_size with P = channels x patch_size^2 values each (data/images/image_patches.h; Dosovitskiy et al.,
// "An image is worth 16x16 words", ICLR 2021).
//
// Without masks:
//   patches       [B, T, P] float32  T = N, and one more with a class token, which comes first and is a row of zeros
//   patch_places  [B, T] int32       1 + n of patch n, 0 of the class token
//   targets       [B, 1] int32       the label
//   places        [B, 1] int32       0: the label is about the first token
// With masks (He et al., "Masked autoencoders are scalable vision learners", CVPR 2022) a share of the patches, chosen
// by (seed, k), is hidden:
//   patches       [B, T, P] float32  T = visible patches, in the order of n, and the class token
//   patch_places  [B, T] int32       as above
//   values        [B, U, P] float32  the U hidden patches in the order of n, each less its own mean and over its own
//                                    deviation, sqrt(variance + 1e-6), that over P - 1 as in their program
//   places        [B, U] int32       1 + n of each
// All other tensors are undefined.
//
// Threads: const calls from any. Batches are copies; the samples may go before them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/images/image_set.h"
#include "data/sampler.h"
#include "data/samples.h"
#include "runtime/status.h"

namespace trefoil {

struct ImageOptions {
  int64_t image_size = 0;  // height and width of what is cut into patches; 0: those of the files
  int64_t patch_size = 16;
  bool class_token = true;

  enum class Crop {
    kCentre,  // the middle of the image, not scaled; for evaluation
    kScaled,  // RandomWindow of the image, scaled to the image size
    kPadded,  // RandomCorner: the image moved by up to `padding` pixels; for small images
  };
  Crop crop = Crop::kCentre;
  double least_area = 0.08, most_area = 1;  // of kScaled, shares of the image's area
  int64_t padding = 4;                      // of kPadded
  bool flip = false;

  // Of values from 0 to 1: one number for each channel or one for all of them.
  std::vector<double> mean = {0.5}, deviation = {0.5};

  double mask_share = 0;  // of the patches that are hidden; 0: no masks

  int64_t classes = 0;  // that the model tells apart: labels are below; 0: as many as the files name

  // Only so many of the images, chosen by their own seed, as many of each class as of any other, to one (classes that
  // have too few give all). More images are those of fewer and some besides. 0: all.
  int64_t images = 0;
  uint64_t images_seed = 1;
};

// Of so many patches those that are hidden with a mask_share.
int64_t HiddenPatches(int64_t patches, double share);

class ImageSamples : public Samples {
 public:
  // Failure: as ImageSet::Open; an option that the images cannot have, or a label that is not below `classes`, named
  // with the nearest legal value.
  static absl::StatusOr<std::unique_ptr<ImageSamples>> Open(const std::vector<std::string>& globs,
                                                            const ImageOptions& options, uint64_t seed,
                                                            FileSystem& fs = FileSystem::Posix());

  const ImageSet& set() const { return set_; }
  int64_t samples() const override { return sampler_.size(); }
  int64_t patches() const { return (height_ / options_.patch_size) * (width_ / options_.patch_size); }  // N
  int64_t patch_values() const { return set_.format().channels * options_.patch_size * options_.patch_size; }  // P
  int64_t length() const { return patches() - hidden_ + (options_.class_token ? 1 : 0); }                      // T
  int64_t targets() const { return hidden_ > 0 ? hidden_ : 1; }                                                // U
  // Which image of set() sample k of the run is.
  int64_t Image(int64_t k) const;

  // Failure: as ImageFile::Read.
  absl::StatusOr<Batch> Get(int64_t first_sample, int64_t count) const override;

 private:
  ImageSamples(ImageSet set, const ImageOptions& options, uint64_t seed, std::vector<int64_t> chosen);
  static absl::Status Check(const ImageSet& set, const ImageOptions& options);
  // Sample k at the image size, [height, width, channels], normalised.
  absl::StatusOr<std::vector<float>> Pixels(int64_t k) const;

  const ImageSet set_;
  const ImageOptions options_;
  const uint64_t seed_;
  const std::vector<int64_t> chosen_;  // images that are used; empty: all
  const Sampler sampler_;
  int64_t height_ = 0, width_ = 0;  // of what is cut into patches
  int64_t hidden_ = 0;              // patches of a sample
};

}  // namespace trefoil
