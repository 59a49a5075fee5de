#include "launcher/report/progress.h"

#include <absl/strings/str_format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace trefoil {
namespace {

constexpr int kWidth = 30;
constexpr double kTerminalSeconds = 0.1;
constexpr double kPlainSeconds = 5;

double Seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

ProgressBar::ProgressBar(std::string label, int64_t total, int workers, const SpeedUnit& unit)
    : label_(std::move(label)),
      total_(total),
      workers_(workers),
      unit_(unit),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      shown_(start_) {}

ProgressBar::~ProgressBar() {
  if (!finished_ && total_ > 0 && terminal_ && shown_ != start_) std::fputc('\n', stderr);
}

std::string ProgressBar::Line(const std::string& label, double share, double per_second, double seconds_left, int width,
                              const SpeedUnit& unit) {
  const int filled = static_cast<int>(share * width);
  std::string bar(std::max(filled, 0), '=');
  if (filled < width) bar += '>';
  bar.resize(width, ' ');
  const int64_t left = std::llround(std::min(seconds_left, 1e9));
  const std::string time = left >= 3600 ? absl::StrFormat("%d:%02d:%02d", left / 3600, left / 60 % 60, left % 60)
                                        : absl::StrFormat("%d:%02d", left / 60, left % 60);
  return absl::StrFormat("%s [%s] %3d%% %7.1f %s/s  %s left", label, bar, static_cast<int>(share * 100),
                         per_second / unit.size, unit.name, time);
}

void ProgressBar::Show(Clock::time_point now) {
  shown_ = now;
  const double seconds = std::max(Seconds(now - start_), 1e-3);
  const double share = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const double left = done_ > 0 ? seconds * (1 - share) / share : 0;
  const double speed = static_cast<double>(done_) * workers_ / seconds;
  const std::string line = Line(label_, share, speed, left, kWidth, unit_);
  std::fprintf(stderr, terminal_ ? "\r%s " : "%s\n", line.c_str());
  std::fflush(stderr);
}

void ProgressBar::Add(int64_t done) {
  done_ += done;
  const Clock::time_point now = Clock::now();
  if (total_ > 0 && Seconds(now - shown_) >= (terminal_ ? kTerminalSeconds : kPlainSeconds)) Show(now);
}

void ProgressBar::Finish() {
  if (finished_ || total_ == 0) return;
  done_ = total_;
  finished_ = true;
  const Clock::time_point now = Clock::now();
  if (!terminal_ && Seconds(now - start_) < kPlainSeconds) return;
  Show(now);
  if (terminal_) std::fputc('\n', stderr);
}

}  // namespace trefoil
