#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <cmath>
#include <vector>

#include "data/images/image_set.h"
#include "launcher/commands/inspect_parts.h"
#include "runtime/number_text.h"

namespace trefoil {
namespace {

// Of each channel's pixels in [0, 1].
struct PixelSums {
  std::vector<double> sum, squares;
  int64_t pixels = 0;

  explicit PixelSums(int64_t channels) : sum(static_cast<size_t>(channels)), squares(sum.size()) {}

  void Add(const std::vector<uint8_t>& image) {
    for (size_t i = 0; i < image.size(); ++i) {
      const double value = image[i] / 255.0;
      sum[i % sum.size()] += value;
      squares[i % sum.size()] += value * value;
    }
    pixels += static_cast<int64_t>(image.size() / sum.size());
  }

  std::string Text() const {
    std::vector<std::string> means, deviations;
    for (size_t c = 0; c < sum.size(); ++c) {
      const double mean = sum[c] / static_cast<double>(pixels);
      means.push_back(absl::StrFormat("%.3f", mean));
      deviations.push_back(
          absl::StrFormat("%.3f", std::sqrt(std::max(0.0, squares[c] / static_cast<double>(pixels) - mean * mean))));
    }
    return absl::StrCat("mean ", absl::StrJoin(means, " "), ", deviation ", absl::StrJoin(deviations, " "));
  }
};

// Reads every image. The first that cannot be read is the error, after all were looked at.
absl::Status Verify(const ImageSet& set, std::ostream& out) {
  constexpr int64_t kMostNamed = 10;
  std::vector<uint8_t> image(static_cast<size_t>(set.format().bytes()));
  PixelSums sums(set.format().channels);
  absl::Status first;
  int64_t bad = 0;
  for (int64_t i = 0; i < set.images(); ++i) {
    const absl::Status read = set.Read(i, image);
    if (read.ok()) {
      sums.Add(image);
      continue;
    }
    if (++bad <= kMostNamed) InspectLine(out, "damaged", std::string(read.message()));
    first.Update(read);
  }
  if (sums.pixels > 0) InspectLine(out, "pixels", sums.Text());
  if (bad == 0) {
    InspectLine(out, "whole", "every byte is as it was written");
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(bad, " of ", set.images(), " images are damaged; the first: ",
                                          std::string(first.message())));
}

}  // namespace

absl::Status InspectImages(FileSystem& fs, const InspectOptions& options, const std::vector<std::string>& globs,
                           std::ostream& out) {
  TREFOIL_ASSIGN_OR_RETURN(const ImageSet set, ImageSet::Open(globs, fs));
  const ImageFormat& format = set.format();
  InspectLine(out, "image files", set.files().size() == 1
                                      ? set.files().front().path()
                                      : absl::StrCat(set.files().size(), ", ", set.files().front().path(), " to ",
                                                     set.files().back().path()));
  InspectLine(out, "images", absl::StrCat(set.images(), " of ", format.height, " x ", format.width, " in ",
                                          format.channels == 1 ? "grey" : "colour", ", ",
                                          BytesText(set.images() * format.bytes())));
  std::vector<int64_t> counts(format.classes.size());
  for (const ImageFile& file : set.files()) {
    for (const int32_t label : file.labels()) ++counts[static_cast<size_t>(label)];
  }
  PrintCounts("classes", format.classes, counts, out);
  if (options.verify) return Verify(set, out);
  InspectLine(out, "more", "--verify reads them: mean and deviation of the pixels, and what is damaged");
  return absl::OkStatus();
}

}  // namespace trefoil
