// A progress bar on a terminal; anywhere else a plain line every few seconds.
//
//   ProgressBar bar("tokenizing", /*total_bytes=*/size, /*workers=*/1);
//   bar.Add(1 << 20);                     // any number of times
//   bar.Finish();
//
//   tokenizing [=========>          ]  47%   61.2 MB/s   0:12 left
//
// Writes to stderr; a line that a terminal shows is rewritten in place at most ten times a second. One thread at a
// time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace trefoil {

// What speeds are told in.
struct SpeedUnit {
  const char* name = "MB";
  double size = 1e6;
};

class ProgressBar {
 public:
  // `total`, of bytes or whatever the unit is made of, is what this process does; `workers` processes do about as much
  // each, so the speed is shown for all. Silent if total is 0.
  ProgressBar(std::string label, int64_t total, int workers, const SpeedUnit& unit = {});
  // Ends the line if Finish was not called.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Add(int64_t done);
  void Finish();

  // The line as above, `width` columns for the bar.
  static std::string Line(const std::string& label, double share, double per_second, double seconds_left, int width,
                          const SpeedUnit& unit = {});

 private:
  using Clock = std::chrono::steady_clock;
  void Show(Clock::time_point now);

  const std::string label_;
  const int64_t total_;
  const int workers_;
  const SpeedUnit unit_;
  const bool terminal_;
  const Clock::time_point start_;
  Clock::time_point shown_;
  int64_t done_ = 0;
  bool finished_ = false;
};

}  // namespace trefoil
