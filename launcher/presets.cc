#include "launcher/presets.h"

#include <cstdio>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace trefoil {
namespace {

// The first line without its "# ".
std::string Description(const Preset& preset) {
  const std::string text = preset.text;
  const size_t begin = text.find_first_not_of("# \n");
  return text.substr(begin, text.find('\n', begin) - begin);
}

}  // namespace

int PresetsMain(int argc, char** argv) {
  if (argc > 1) {
    std::vector<std::string> names;
    for (const Preset& preset : Presets()) {
      if (std::string(argv[1]) == preset.name) {
        std::fputs(preset.text, stdout);
        return 0;
      }
      names.emplace_back(preset.name);
    }
    const std::string nearest = NearestName(argv[1], names);
    std::fprintf(stderr, "trefoil presets: no preset '%s'%s\n", argv[1],
                 nearest.empty() ? "" : ("; did you mean '" + nearest + "'?").c_str());
    return 2;
  }
  for (const Preset& preset : Presets()) std::printf("%-12s %s\n", preset.name, Description(preset).c_str());
  return 0;
}

}  // namespace trefoil
