// `trefoil generate`: continues a prompt with a trained model.
#pragma once

namespace trefoil {

int GenerateMain(int argc, char** argv);

}  // namespace trefoil
