// extract_austen RDB FOLDER: see launcher/corpora/austen.h.
#include <iostream>

#include "launcher/corpora/austen.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: extract_austen RDB FOLDER\n"
                 "RDB: data/Rdata.rdb of the Debian package r-cran-janeaustenr; FOLDER gets the novels as .txt files\n";
    return 2;
  }
  const absl::Status status = trefoil::ExtractAusten(trefoil::FileSystem::Posix(), argv[1], argv[2]);
  if (status.ok()) return 0;
  std::cerr << "extract_austen: " << std::string(status.message()) << "\n";
  return 1;
}
