// The lines of text that manifest.json and the parts of the manifest have in common (manifest.cc, part.cc have the
// grammars). Internal to checkpoint/.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/slices.h"
#include "runtime/status.h"

namespace trefoil {

// The version that is written. Read are this one and those before it.
inline constexpr int kManifestVersion = 3;

// A JSON string. CHECKs that it is UTF-8.
std::string Quoted(const std::string& text);
// "4,3"
std::string Numbers(const Shape& shape);

// `body` and the line with its checksum, which ends the text.
std::string WithChecksum(const std::string& body);
// The parsed text, an object whose "format" is `format` and whose version this program reads; `what`: a text of another
// format is not this, "a manifest of a checkpoint". Checks the checksum. `path` is for messages.
absl::StatusOr<nlohmann::json> ParseChecked(const std::string& text, const std::string& path, const std::string& format,
                                            const std::string& what);

// `json[name]` as a number that is not negative, or a string; nothing if it is neither.
std::optional<int64_t> NumberIn(const nlohmann::json& json, const char* name);
std::optional<std::string> StringIn(const nlohmann::json& json, const char* name);
// All of them numbers of 0 to 2^63 - 1; nothing if they are not.
std::optional<std::vector<int64_t>> NumbersOf(const nlohmann::json& json);

// `[name,dtype,[shape]` of a tensor's line; ReadTensorHead reads it from the front of one of `size` things. `rule` tells
// what is wrong with it, if anything.
std::string TensorHead(const std::string& name, DType dtype, const Shape& shape);
bool ReadTensorHead(const nlohmann::json& json, size_t size, std::string* name, DType* dtype, Shape* shape,
                    std::string* rule);
// The tensor's line in version 3, all of whose slices are of one rank.
std::string TensorLine(const ManifestTensor& tensor);
// A tensor's line. `rank`: that wrote the slices; nothing: each says so, as before version 3. `files`: sizes of the
// files by rank.
std::optional<ManifestTensor> ReadTensor(const nlohmann::json& json, int64_t version, std::optional<int> rank,
                                         const std::map<int, int64_t>& files, std::string* rule);

}  // namespace trefoil
