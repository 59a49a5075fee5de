// `trefoil calibrate`: measures this machine, for `trefoil plan` to predict with.
#pragma once

namespace trefoil {

int CalibrateMain(int argc, char** argv);

}  // namespace trefoil
