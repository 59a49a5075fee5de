#include "launcher/prediction/pictures.h"

#include <vector>

#include "data/images/image_patches.h"
#include "data/images/read_image.h"
#include "data/images/resize.h"
#include "model/patches.h"

namespace trefoil {

absl::StatusOr<Batch> ReadPictures(FileSystem& fs, const ModelConfig& model, const TaskConfig& task,
                                   std::span<const std::string> paths) {
  const int64_t size = model.patch_size(), channels = model.channels(), count = std::ssize(paths);
  const int64_t patches = ImagePatches(model), values = PatchValues(model);
  Batch batch = {.samples = count, .length = patches + 1};
  batch.patches = HostTensor::Zeros(DType::kFloat32, {count, patches + 1, values});
  batch.patch_places = HostTensor::Zeros(DType::kInt32, {count, patches + 1});
  batch.places = HostTensor::Zeros(DType::kInt32, {count, 1});
  float* out = batch.patches.values<float>().data();
  for (int64_t row = 0; row < count; ++row) {
    TREFOIL_ASSIGN_OR_RETURN(const Image picture, ReadImage(fs, paths[static_cast<size_t>(row)], channels));
    const Image image = CoverAndCrop(picture, model.image_size(), model.image_size());
    std::vector<float> pixels(image.values.begin(), image.values.end());
    Normalise(pixels, channels, {task.pixel_mean()}, {task.pixel_deviation()});
    out += values;  // of the class token
    for (int64_t n = 0; n < patches; ++n, out += values) {
      CopyPatch({.pixels = pixels, .width = model.image_size(), .channels = channels}, size, n, out);
      batch.patch_places.values<int32_t>()[static_cast<size_t>(row * (patches + 1) + 1 + n)] =
          static_cast<int32_t>(1 + n);
    }
  }
  return batch;
}

}  // namespace trefoil
