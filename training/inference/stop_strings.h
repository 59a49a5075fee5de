// Strings at which a text ends, found while it comes in pieces: nothing is given out that might become a part of one.
//
//   StopStrings stop({"\n\n", "User:"});
//   stop.Add("Hello.\n");   // "Hello."
//   stop.Add("Us");         // "\n", and "Us" waits
//   stop.Add("er: and");    // "", and stopped()
//
// The text is cut before the stop string that is complete first; of those that end at the same byte, before the longest. So
// it is the same in whatever pieces it comes.
//
// Threads: one at a time.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trefoil {

class StopStrings {
 public:
  // None is empty; there may be none.
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // What may be given out now. Not after it has stopped.
  std::string Add(std::string_view piece);
  bool stopped() const { return stopped_; }
  // Where the text ends without one: what still waits.
  std::string End();

 private:
  const std::vector<std::string> strings_;
  std::string waiting_;
  bool stopped_ = false;
};

}  // namespace trefoil
