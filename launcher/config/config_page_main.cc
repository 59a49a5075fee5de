// Prints docs/config.md: config_page DESCRIPTORS, a file that protoc wrote (launcher/config/config_page.h).
#include <glog/logging.h>

#include <fstream>
#include <iostream>

#include "launcher/config/config_page.h"

int main(int argc, char** argv) {
  CHECK_EQ(argc, 2) << "config_page DESCRIPTORS";
  std::ifstream file(argv[1], std::ios::binary);
  google::protobuf::FileDescriptorSet files;
  CHECK(files.ParseFromIstream(&file)) << argv[1];
  std::cout << trefoil::ConfigPage(files);
}
