// Prints the build id. NUMBER makes programs that differ in nothing else.
#include <cstdio>

#include "runtime/version.h"

int main(int argc, char**) {
  std::printf("%s\n", trefoil::BuildId().c_str());
  return argc > NUMBER + 10;
}
