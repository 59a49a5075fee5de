#include "training/trace.h"

#include <absl/strings/str_format.h>

namespace trefoil {

OpTrace::OpTrace(Device& device) : device_(device), begin_(std::chrono::steady_clock::now()) {
  CHECK(!device.observer());
  device.Observe([this](const OpCount& count, std::chrono::steady_clock::time_point start) {
    std::lock_guard lock(mutex_);
    const size_t thread = threads_.try_emplace(std::this_thread::get_id(), threads_.size()).first->second;
    events_.push_back(
        {.count = count, .start = std::chrono::duration<double>(start - begin_).count(), .thread = thread});
  });
}

OpTrace::~OpTrace() { device_.Observe(nullptr); }

// Trace Event Format, complete events ("X"); times in microseconds:
//   {"traceEvents":[{"name":"matmul","ph":"X","ts":12.5,"dur":80,"pid":0,"tid":0,"args":{"gflops":1.5,"mb":2}}, ...]}
absl::Status OpTrace::Write(FileSystem& fs, const std::string& path) {
  device_.Observe(nullptr);
  std::string text = "{\"traceEvents\":[";
  for (size_t i = 0; i < events_.size(); ++i) {
    const Event& event = events_[i];
    absl::StrAppendFormat(&text,
                          "%s\n{\"name\":\"%s\",\"ph\":\"X\",\"ts\":%.3f,\"dur\":%.3f,\"pid\":0,\"tid\":%d,"
                          "\"args\":{\"gflop\":%.6g,\"mb\":%.6g}}",
                          i == 0 ? "" : ",", event.count.op, 1e6 * event.start, 1e6 * event.count.seconds,
                          event.thread, 1e-9 * event.count.flops, 1e-6 * event.count.bytes);
  }
  return WriteFileAtomically(fs, path, text + "\n]}\n");
}

}  // namespace trefoil
