// `trefoil plan`: what a run will take, on machines that need not be there.
#pragma once

namespace trefoil {

int PlanMain(int argc, char** argv);

}  // namespace trefoil
