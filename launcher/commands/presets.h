// `trefoil presets`: lists the configs that are built in with their parameter counts, or prints the one that is named.
#pragma once

namespace trefoil {

int PresetsMain(int argc, char** argv);

}  // namespace trefoil
