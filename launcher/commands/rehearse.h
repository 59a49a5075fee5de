// `trefoil rehearse`: one rank of a large job, alone on this machine.
#pragma once

namespace trefoil {

int RehearseMain(int argc, char** argv);

}  // namespace trefoil
