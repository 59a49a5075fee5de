#include "launcher/config/config.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <google/protobuf/text_format.h>

#include "launcher/config/config_text.h"
#include "launcher/config/presets.h"
#include "launcher/repeated_flags.h"

namespace trefoil {
absl::StatusOr<Source> FindSource(FileSystem& fs, const std::string& flag, const std::string& kind,
                                  std::span<const Preset> built_in, const std::string& given) {
  if (given.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": empty; give a file or a ", kind, " (`trefoil presets` lists them)"));
  }
  const auto find = [&](const std::string& name) -> const Preset* {
    for (const Preset& preset : built_in) {
      if (name == preset.name) return &preset;
    }
    return nullptr;
  };
  const Preset* preset = find(given);
  if (preset == nullptr && !fs.Exists(given)) {
    const std::string last = given.substr(given.rfind('/') + 1);  // all of it, if there is none
    preset = find(last.substr(0, last.rfind(".pbtxt")));
  }
  if (preset != nullptr) return Source{absl::StrCat(kind, " ", preset->name), preset->text};
  if (!fs.Exists(given)) {
    std::vector<std::string> names;
    for (const Preset& other : built_in) names.emplace_back(other.name);
    const std::string nearest = NearestName(given, names);
    return absl::NotFoundError(absl::StrCat(flag, ": '", given, "' is neither a file nor a ", kind, "; ",
                                            nearest.empty() ? absl::StrCat("`trefoil presets` lists the ", kind, "s")
                                                            : absl::StrCat("did you mean '", nearest, "'?")));
  }
  TREFOIL_ASSIGN_OR_RETURN(std::string text, ReadFile(fs, given));
  return Source{given, std::move(text)};
}

absl::StatusOr<std::vector<std::string>> TakeSets(int* argc, char** argv) {
  return TakeRepeated("set", "PATH=VALUE, for example parallel.tensor=2", argc, argv);
}

absl::StatusOr<RunConfig> ReadConfig(FileSystem& fs, const std::string& path_or_preset,
                                     const std::vector<std::string>& sets) {
  TREFOIL_ASSIGN_OR_RETURN(const Source source, FindSource(fs, "--config", "preset", Presets(), path_or_preset));
  RunConfig config;
  std::vector<std::string> problems;
  MergeText(source.name, source.text, "", &config, &problems);
  for (const std::string& set : sets) ApplySet(set, &config, &problems);
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  return config;
}

absl::StatusOr<Cluster> ReadCluster(FileSystem& fs, const std::string& path_or_name) {
  TREFOIL_ASSIGN_OR_RETURN(const Source source, FindSource(fs, "--cluster", "cluster", Clusters(), path_or_name));
  Cluster cluster;
  std::vector<std::string> problems;
  MergeText(source.name, source.text, "", &cluster, &problems);
  if (problems.empty() && cluster.devices_per_node() < 1) {
    problems.push_back(absl::StrCat(source.name, ": devices_per_node: ", cluster.devices_per_node(),
                                    ", must be at least 1; nearest legal: 1"));
  }
  if (problems.empty() && cluster.ops().empty()) {
    problems.push_back(absl::StrCat(source.name, ": ops: none, must have at least one, such as ops { efficiency: 0.7 ",
                                    "gbytes_per_second: 1000 }"));
  }
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  return cluster;
}

std::string ConfigText(const RunConfig& config) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(config, &text);
  return text;
}

}  // namespace trefoil
