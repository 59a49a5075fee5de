// `trefoil checkpoint list`: what checkpoints a run has, and what else lies among them. Reads no elements.
//
//   run         runs/a
//   model       LLAMA: 6 layers, hidden 192, 6 heads (2 key/value), feed-forward 512, vocabulary 2048
//   layout      tensor 2 x pipeline 2 x data 1 in its config.pbtxt
//   keep        the last 2; each 100th step's
//   in use      by nobody
//
//       step  what        size      files   age     note
//        100  complete    36.1 MiB  4       2 h     each 100th; best held-out
//        550  complete    36.1 MiB  4       10 min  last 2
//        600  complete    36.1 MiB  4       4 min   newest; each 100th
//        650  partial     12.4 MiB  -       3 min   left by a save that died; never read
//
// Files: of elements, one of each rank that had something to write; "2 of 4": others are missing or have the wrong size,
// and the note says which. What is complete by that may still have bytes that are not as they were written: verify.h.
#pragma once

#include <ostream>
#include <string>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// Of a run, a folder of checkpoints, or one of them. What is damaged is listed as that, and no failure.
absl::Status ListNamed(FileSystem& fs, const std::string& path, std::ostream& out);

}  // namespace trefoil
