// `trefoil bench`: how fast training steps of a config are on this machine, and where the time goes.
#pragma once

namespace trefoil {

int BenchMain(int argc, char** argv);

}  // namespace trefoil
