// The `trefoil` program.
#include <glog/logging.h>
#include <malloc.h>

#include <iostream>

#include "launcher/command.h"
#include "launcher/help.h"

namespace {

// Buffers from here on lie in pages of their own, which go back to the system when they are freed. By default glibc raises
// the limit to the largest buffer freed so far; what oneDNN compiles products in (over 128 KiB each) then stays in the
// heap, by chance as much as 4 MiB of it.
constexpr int kLargeBuffer = 128 << 10;

}  // namespace

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, kLargeBuffer);
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  return trefoil::Dispatch(trefoil::Commands(), argc, argv, std::cout, std::cerr);
}
