#!/bin/sh
# embed_presets.sh FILE.pbtxt ...: prints a C++ file that holds them, for launcher/presets.h.
echo '#include "launcher/presets.h"'
echo 'namespace trefoil {'
echo 'namespace {'
echo 'constexpr Preset kPresets[] = {'
for file in "$@"; do
  printf '    {"%s", R"pbtxt(' "$(basename "$file" .pbtxt)"
  cat "$file"
  echo ')pbtxt"},'
done
echo '};'
echo '}  // namespace'
echo 'std::span<const Preset> Presets() { return kPresets; }'
echo '}  // namespace trefoil'
