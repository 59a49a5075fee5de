#include "data/tokens/tokenizer_files.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <utility>

#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

constexpr std::string_view kStem = "tokenizer";
constexpr std::string_view kConfig = "tokenizer_config";
constexpr std::string_view kTemplate = "chat_template";

bool IsJson(std::string_view path) { return path.ends_with(".json"); }

// The name of one that is kept, or of the one in use.
std::string Named(std::string_view stem, std::string_view checksum, std::string_view extension) {
  return absl::StrCat(absl::string_view(stem.data(), stem.size()), checksum.empty() ? "" : "-",
                      absl::string_view(checksum.data(), checksum.size()),
                      absl::string_view(extension.data(), extension.size()));
}

// What is between "tokenizer" and the extension: "-5d3a01ff"; empty of a file with another name.
std::string_view SuffixOf(std::string_view path) {
  if (const size_t slash = path.rfind('/'); slash != std::string_view::npos) path.remove_prefix(slash + 1);
  if (!path.starts_with(kStem)) return {};
  path.remove_prefix(kStem.size());
  return path.substr(0, path.rfind('.'));
}

absl::StatusOr<std::string> ReadIfThere(FileSystem& fs, const std::string& path) {
  if (!fs.Exists(path)) return "";
  return ReadFile(fs, path);
}

absl::Status WriteOrRemove(FileSystem& fs, const std::string& path, const std::string& content) {
  if (!content.empty()) return WriteFileAtomically(fs, path, content);
  return fs.Exists(path) ? fs.Remove(path) : absl::OkStatus();
}

}  // namespace

std::string TokenizerFiles::checksum() const { return empty() ? "" : absl::StrFormat("%08x", Crc32c(content)); }

std::string TokenizerFileName(bool json, std::string_view checksum) {
  return Named(kStem, checksum, json ? ".json" : ".model");
}

bool IsTokenizerFile(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {kStem, ".json"}, {kStem, ".model"}, {kConfig, ".json"}, {kTemplate, ".jinja"}};
  constexpr size_t kSuffix = 9;  // "-5d3a01ff"
  for (const auto& [stem, extension] : kNames) {
    if (!name.starts_with(stem) || !name.ends_with(extension)) continue;
    const std::string_view suffix = name.substr(stem.size(), name.size() - stem.size() - extension.size());
    if (suffix.empty() || (suffix.size() == kSuffix && suffix[0] == '-')) return true;
  }
  return false;
}

std::string TokenizerIn(FileSystem& fs, const std::string& folder) { return KeptTokenizerIn(fs, folder, {}); }

std::string KeptTokenizerIn(FileSystem& fs, const std::string& folder, std::string_view checksum) {
  for (const bool json : {true, false}) {
    const std::string path = absl::StrCat(folder, folder.empty() ? "" : "/", TokenizerFileName(json, checksum));
    if (fs.Exists(path)) return path;
  }
  return "";
}

absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(FileSystem& fs, const std::string& given) {
  const std::string in_folder = TokenizerIn(fs, given);
  const std::string& path = in_folder.empty() ? given : in_folder;
  TokenizerFiles files{.json = IsJson(path), .content = {}, .config = {}, .chat_template = {}};
  TREFOIL_ASSIGN_OR_RETURN(files.content, ReadFile(fs, path));
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  const std::string suffix(SuffixOf(path));
  TREFOIL_ASSIGN_OR_RETURN(files.config, ReadIfThere(fs, absl::StrCat(folder, "tokenizer_config", suffix, ".json")));
  TREFOIL_ASSIGN_OR_RETURN(files.chat_template,
                           ReadIfThere(fs, absl::StrCat(folder, "chat_template", suffix, ".jinja")));
  return files;
}

absl::Status WriteTokenizerFiles(FileSystem& fs, const std::string& folder, const TokenizerFiles& files,
                                 std::string_view checksum) {
  const auto path = [&](const std::string& name) { return absl::StrCat(folder, "/", name); };
  TREFOIL_RETURN_IF_ERROR(WriteOrRemove(fs, path(Named(kConfig, checksum, ".json")), files.config));
  TREFOIL_RETURN_IF_ERROR(WriteOrRemove(fs, path(Named(kTemplate, checksum, ".jinja")), files.chat_template));
  TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, path(TokenizerFileName(files.json, checksum)), files.content));
  return WriteOrRemove(fs, path(TokenizerFileName(!files.json, checksum)), "");
}

}  // namespace trefoil
