#include "runtime/files/file.h"

#include <glob.h>

namespace trefoil {

std::string FolderOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status RenameDurably(FileSystem& fs, const std::string& from, const std::string& to) {
  TREFOIL_RETURN_IF_ERROR(fs.Rename(from, to));
  TREFOIL_RETURN_IF_ERROR(fs.FlushFolder(FolderOf(to)));
  return FolderOf(from) == FolderOf(to) ? absl::OkStatus() : fs.FlushFolder(FolderOf(from));
}

absl::Status MakeFolderDurably(FileSystem& fs, const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos || fs.Exists(path)) return fs.MakeFolder(path);
  const std::string folder = path.substr(0, end + 1), above = FolderOf(folder);
  if (above != folder) TREFOIL_RETURN_IF_ERROR(MakeFolderDurably(fs, above));
  TREFOIL_RETURN_IF_ERROR(fs.MakeFolder(folder));
  return fs.FlushFolder(above);
}

absl::StatusOr<std::string> ReadableFile::ReadAll() const {
  std::string content(static_cast<size_t>(size()), '\0');
  TREFOIL_RETURN_IF_ERROR(Read(0, std::as_writable_bytes(std::span(content))));
  return content;
}

absl::StatusOr<std::string> ReadFile(FileSystem& fs, const std::string& path) {
  TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> file, fs.Open(path));
  return file->ReadAll();
}

absl::Status WriteFile(FileSystem& fs, const std::string& path, std::string_view content) {
  TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs.Create(path));
  TREFOIL_RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(content))));
  return file->Close();
}

absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view content) {
  const std::string temporary = path + ".partial";
  absl::Status status = WriteFile(fs, temporary, content);
  if (status.ok()) status = RenameDurably(fs, temporary, path);
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
