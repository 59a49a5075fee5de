#include "launcher/commands/commands.h"

#include <glog/logging.h>
#include <google/protobuf/text_format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "launcher/config/presets.h"
#include "model/model.h"
#include "runtime/number_text.h"
#include "runtime/status.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

// The first line without its "# ".
std::string Description(const Preset& preset) {
  const std::string text = preset.text;
  const size_t begin = text.find_first_not_of("# \n");
  return text.substr(begin, text.find('\n', begin) - begin);
}

// "124M"; empty if the vocabulary is left to the tokenizer.
std::string Parameters(const Preset& preset) {
  RunConfig config;
  CHECK(google::protobuf::TextFormat::ParseFromString(preset.text, &config)) << preset.name;
  FillDefaults(&config, /*ranks=*/1, {.pays = true});
  if (config.model().vocabulary() == 0 && config.model().family() != ModelConfig::VIT) return "";
  return ShortCount(static_cast<double>(DeclareModel(config.model()).elements()));
}

}  // namespace

int PresetsMain(int argc, char** argv) {
  if (argc > 1) {
    std::vector<std::string> names;
    for (const std::span<const Preset> files : {Presets(), Clusters()}) {
      for (const Preset& preset : files) {
        if (std::string(argv[1]) == preset.name) {
          std::fputs(preset.text, stdout);
          return 0;
        }
        names.emplace_back(preset.name);
      }
    }
    const std::string nearest = NearestName(argv[1], names);
    std::fprintf(stderr, "trefoil presets: no preset '%s'%s\n", argv[1],
                 nearest.empty() ? "" : ("; did you mean '" + nearest + "'?").c_str());
    return 2;
  }
  const auto print = [](const Preset& preset, const std::string& parameters) {
    std::printf("%-16s %6s  %s\n", preset.name, parameters.c_str(), Description(preset).c_str());
  };
  for (const Preset& preset : Presets()) print(preset, Parameters(preset));
  std::puts("\nClusters, for `trefoil plan --cluster`:");
  for (const Preset& cluster : Clusters()) print(cluster, "");
  return 0;
}

}  // namespace trefoil
