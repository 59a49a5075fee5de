#!/bin/sh
# embed_presets.sh FUNCTION FILE.pbtxt ...: prints a C++ file with the function of launcher/config/presets.h that returns them.
function=$1
shift
echo '#include "launcher/config/presets.h"'
echo 'namespace trefoil {'
echo 'namespace {'
echo 'constexpr Preset kFiles[] = {'
for file in "$@"; do
  printf '    {"%s", R"pbtxt(' "$(basename "$file" .pbtxt)"
  cat "$file"
  echo ')pbtxt"},'
done
echo '};'
echo '}  // namespace'
echo "std::span<const Preset> $function() { return kFiles; }"
echo '}  // namespace trefoil'
