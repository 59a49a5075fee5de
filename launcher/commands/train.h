// `trefoil train`: trains, or goes on with, the run that a config describes. One process per rank.
#pragma once

namespace trefoil {

int TrainMain(int argc, char** argv);

}  // namespace trefoil
