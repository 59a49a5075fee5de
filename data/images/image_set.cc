#include "data/images/image_set.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <set>
#include <utility>

namespace trefoil {
namespace {

constexpr std::string_view kExtension = ".images";

absl::StatusOr<std::set<std::string>> Match(const std::vector<std::string>& globs, FileSystem& fs) {
  std::set<std::string> paths;
  for (std::string glob : globs) {
    if (!glob.ends_with(kExtension)) glob += kExtension;
    std::vector<std::string> matched = Glob(glob);
    if (fs.Exists(glob) || glob.find_first_of("*?[") == std::string::npos) matched = {glob};
    if (matched.empty()) {
      return absl::NotFoundError(
          absl::StrCat(glob, ": no image file matches; they are written by `trefoil images`"));
    }
    paths.insert(matched.begin(), matched.end());
  }
  if (paths.empty()) return absl::InvalidArgumentError("no image files named; name at least one path or pattern");
  return paths;
}

std::string Describe(const ImageFormat& format) {
  return absl::StrCat(format.height, " x ", format.width, " x ", format.channels, " in ", format.classes.size(),
                      " classes");
}

absl::Status CheckSame(const ImageFile& first, const ImageFile& other) {
  const ImageFormat &a = first.format(), &b = other.format();
  if (a == b) return absl::OkStatus();
  const auto difference = std::mismatch(a.classes.begin(), a.classes.end(), b.classes.begin(), b.classes.end());
  std::string names;
  if (difference.first != a.classes.end() && difference.second != b.classes.end()) {
    names = absl::StrCat("; class ", difference.first - a.classes.begin(), " is \"", *difference.second,
                         "\" here and \"", *difference.first, "\" there");
  }
  return absl::InvalidArgumentError(absl::StrCat(other.path(), ": images of ", Describe(b), ", but ", first.path(),
                                                 " has ", Describe(a), names,
                                                 "; the files of a data set have one size and the same classes"));
}

}  // namespace

absl::StatusOr<ImageSet> ImageSet::Open(const std::vector<std::string>& globs, FileSystem& fs) {
  TREFOIL_ASSIGN_OR_RETURN(const std::set<std::string> paths, Match(globs, fs));
  ImageSet set;
  set.starts_ = {0};
  for (const std::string& path : paths) {
    TREFOIL_ASSIGN_OR_RETURN(ImageFile file, ImageFile::Open(path, fs));
    if (!set.files_.empty()) TREFOIL_RETURN_IF_ERROR(CheckSame(set.files_.front(), file));
    set.starts_.push_back(set.starts_.back() + file.images());
    set.files_.push_back(std::move(file));
  }
  return set;
}

size_t ImageSet::FileOf(int64_t index) const {
  CHECK(index >= 0 && index < images()) << index << " of " << images();
  return static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), index) - starts_.begin() - 1);
}

int32_t ImageSet::label(int64_t index) const {
  const size_t file = FileOf(index);
  return files_[file].labels()[static_cast<size_t>(index - starts_[file])];
}

std::string ImageSet::Describe(int64_t index) const {
  const size_t file = FileOf(index);
  return absl::StrCat(files_[file].path(), ": image ", index - starts_[file]);
}

absl::Status ImageSet::Read(int64_t index, std::span<uint8_t> out) const {
  const size_t file = FileOf(index);
  return files_[file].Read(index - starts_[file], out);
}

}  // namespace trefoil
