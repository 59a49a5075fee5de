// Jane Austen's six novels out of Debian's package r-cran-janeaustenr, as .txt files: launcher/corpora/extract_austen.
//
//   apt-get download r-cran-janeaustenr && dpkg -x r-cran-janeaustenr_*.deb unpacked
//   data=$PWD/unpacked/usr/lib/R/site-library/janeaustenr/data
//   bazel run //launcher/corpora:extract_austen $data/Rdata.rdb $PWD/text
//
// writes text/emma.txt, mansfield_park.txt, northanger_abbey.txt, persuasion.txt, pride_and_prejudice.txt and
// sense_and_sensibility.txt: 4.03 MB of the public domain.
//
// The package holds each novel as an R character vector, one string a line, in a lazy-load database (R Internals, 1.8
// "Serialization Formats"), all big-endian:
//   rdb     := record*
//   record  := u32 raw_length, zlib stream of raw_length bytes: object
//   object  := "X\n" i32 version=3 i32 writer i32 reader i32 n char[n] encoding
//              u32 flags (low byte 16: character vector) i32 count string[count]
//   string  := u32 flags (low byte 9) i32 n char[n]                           n = -1: missing, read as empty
// Example: the string "EMMA" is 00040009 00000004 454d4d41.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct Novel {
  std::string title;  // its first line
  std::string text;   // lines, each ended by a newline
};

// The novels in the content of an .rdb file. `name` is for messages.
absl::StatusOr<std::vector<Novel>> ReadNovels(const std::string& name, std::string_view rdb);

// Writes the novels in the file `rdb` to FOLDER/*.txt.
absl::Status ExtractAusten(FileSystem& fs, const std::string& rdb, const std::string& folder);

}  // namespace trefoil
