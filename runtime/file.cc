#include "runtime/file.h"

#include <glob.h>

namespace trefoil {

absl::StatusOr<std::string> ReadFile(FileSystem& fs, const std::string& path) {
  TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> file, fs.Open(path));
  std::string content(static_cast<size_t>(file->size()), '\0');
  TREFOIL_RETURN_IF_ERROR(file->Read(0, std::as_writable_bytes(std::span(content))));
  return content;
}

absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view content) {
  const std::string temporary = path + ".partial";
  const absl::Status status = [&]() -> absl::Status {
    TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs.Create(temporary));
    TREFOIL_RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(content))));
    TREFOIL_RETURN_IF_ERROR(file->Close());
    return fs.Rename(temporary, path);
  }();
  // What went wrong matters more than whether the rest could be removed.
  if (!status.ok()) fs.Remove(temporary).IgnoreError();
  return status;
}

std::vector<std::string> Glob(const std::string& pattern) {
  glob_t matches = {};
  std::vector<std::string> paths;
  if (glob(pattern.c_str(), 0, nullptr, &matches) == 0) {
    paths.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  }
  globfree(&matches);
  return paths;
}

}  // namespace trefoil
