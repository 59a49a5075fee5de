#include "launcher/config.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <google/protobuf/text_format.h>

#include "launcher/config_text.h"
#include "launcher/presets.h"

namespace trefoil {
namespace {

// The text of a config and what to call it in messages.
struct Source {
  std::string name;
  std::string text;
};

absl::StatusOr<Source> FindSource(FileSystem& fs, const std::string& path_or_preset) {
  std::vector<std::string> names;
  for (const Preset& preset : Presets()) {
    if (path_or_preset == preset.name) {
      return Source{absl::StrCat("preset ", preset.name), std::string(preset.text)};
    }
    names.emplace_back(preset.name);
  }
  if (path_or_preset.empty()) {
    return absl::InvalidArgumentError("--config: empty; give a file or a preset (`trefoil presets` lists them)");
  }
  if (!fs.Exists(path_or_preset)) {
    const std::string nearest = NearestName(path_or_preset, names);
    return absl::NotFoundError(absl::StrCat("--config: '", path_or_preset, "' is neither a file nor a preset; ",
                                            nearest.empty() ? "`trefoil presets` lists the presets"
                                                            : absl::StrCat("did you mean '", nearest, "'?")));
  }
  TREFOIL_ASSIGN_OR_RETURN(std::string text, ReadFile(fs, path_or_preset));
  return Source{path_or_preset, std::move(text)};
}

}  // namespace

absl::StatusOr<std::vector<std::string>> TakeSets(int* argc, char** argv) {
  std::vector<std::string> sets;
  int kept = 0;
  for (int i = 0; i < *argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--") {
      while (i < *argc) argv[kept++] = argv[i++];
      break;
    }
    if (argument == "--set" || argument == "-set") {
      if (i + 1 == *argc) {
        return absl::InvalidArgumentError("--set: nothing follows; give PATH=VALUE, for example parallel.tensor=2");
      }
      sets.emplace_back(argv[++i]);
    } else if (absl::StartsWith(argument, "--set=") || absl::StartsWith(argument, "-set=")) {
      sets.push_back(argument.substr(argument.find('=') + 1));
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  argv[kept] = nullptr;
  return sets;
}

absl::StatusOr<RunConfig> ReadConfig(FileSystem& fs, const std::string& path_or_preset,
                                     const std::vector<std::string>& sets) {
  TREFOIL_ASSIGN_OR_RETURN(const Source source, FindSource(fs, path_or_preset));
  RunConfig config;
  std::vector<std::string> problems;
  MergeText(source.name, source.text, "", &config, &problems);
  for (const std::string& set : sets) ApplySet(set, &config, &problems);
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  return config;
}

std::string ConfigText(const RunConfig& config) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(config, &text);
  return text;
}

}  // namespace trefoil
