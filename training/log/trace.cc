#include "training/log/trace.h"

#include <absl/strings/str_format.h>

#include "training/log/trace_events.h"

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

absl::Status OpTrace::Write(FileSystem& fs, const std::string& path) {
  device_.Observe(nullptr);
  TraceEvents trace;
  for (const Event& event : events_) {
    trace.Complete({.name = event.count.op,
                    .thread = static_cast<int>(event.thread),
                    .begin = event.start,
                    .end = event.start + event.count.seconds},
                   absl::StrFormat("\"gflop\":%.6g,\"mb\":%.6g", 1e-9 * event.count.flops, 1e-6 * event.count.bytes));
  }
  return WriteFileAtomically(fs, path, std::move(trace).Finish());
}

}  // namespace trefoil
