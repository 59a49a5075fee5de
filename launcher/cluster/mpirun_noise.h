// What mpirun adds to its ranks' stderr when they end with an exit status other than 0, taken out: a rank of ours has
// said what is wrong in one line, and an exit status may be no error at all (a run that was asked to stop).
//
//   MpirunNoise noise;
//   std::string shown = noise.Add(read);      // what to print of what was read so far
//   shown = noise.End();                      // the rest
//
// mpirun's messages are blocks between two lines of 74 dashes. Those that tell of an exit status or an abort are dropped:
//
//   --------------------------------------------------------------------------
//   Primary job  terminated normally, but 1 process returned
//   a non-zero exit code. Per user-direction, the job has been aborted.
//   --------------------------------------------------------------------------
//
// All others are kept: of a rank that a signal ended, of a host that is gone, of a program that cannot be run. Whatever
// is no such block passes at once, but for the start of a line that may become dashes.
//
// Threads: one at a time.
#pragma once

#include <string>
#include <string_view>

namespace trefoil {

class MpirunNoise {
 public:
  std::string Add(std::string_view text);
  std::string End();

 private:
  // Takes a whole line with its end, and appends what is to be shown.
  void Line(std::string* shown);

  std::string line_;      // the line so far, held back
  bool passing_ = false;  // its beginning was shown, so the rest is too
  std::string block_;     // held back: a line of dashes, and what follows it if that is to be dropped
  bool dropping_ = false;
};

}  // namespace trefoil
