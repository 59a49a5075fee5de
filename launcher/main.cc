// The `trefoil` program.
#include <glog/logging.h>

#include <iostream>

#include "launcher/command.h"
#include "launcher/help.h"

int main(int argc, char** argv) {
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  return trefoil::Dispatch(trefoil::Commands(), argc, argv, std::cout, std::cerr);
}
