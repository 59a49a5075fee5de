#include "exchange/folder_file.h"

#include <absl/strings/match.h>

#include <filesystem>
#include <system_error>

namespace trefoil {
namespace {

namespace fs = std::filesystem;

bool Within(const fs::path& folder, const fs::path& path) {
  const fs::path relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

}  // namespace

absl::StatusOr<std::string> FileInFolder(const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + name;
  if (name.empty() || absl::StrContains(name, '/') || name == "." || name == "..") {
    return absl::InvalidArgumentError(folder + ": names the file \"" + name +
                                      "\", which must be a name in this folder");
  }
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) return absl::NotFoundError(path + ": " + error.message());
  const fs::path home = fs::canonical(folder, error);
  if (error) return absl::NotFoundError(folder + ": " + error.message());
  const bool of_cache = home.parent_path().filename() == "snapshots";
  if (Within(home, real) || (of_cache && Within(home.parent_path().parent_path() / "blobs", real))) return path;
  return absl::InvalidArgumentError(path + " is a link to " + real.string() +
                                    ", out of its folder; if you trust it, put a copy in its place");
}

}  // namespace trefoil
