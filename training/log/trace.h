// A Chrome trace of the ops that a device runs: to be opened in chrome://tracing or ui.perfetto.dev.
//
//   OpTrace trace(device);             // records from here on
//   ... some steps ...
//   TREFOIL_RETURN_IF_ERROR(trace.Write(fs, "trace.json"));   // and stops recording
//
// Threads: ops may come from several threads; each is a row of the picture. Construct, Write and destroy on one.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/device.h"
#include "runtime/files/file.h"

namespace trefoil {

class OpTrace {
 public:
  // The device, which has no observer yet, outlives the trace.
  explicit OpTrace(Device& device);
  ~OpTrace();
  absl::Status Write(FileSystem& fs, const std::string& path);

 private:
  struct Event {
    OpCount count;
    double start = 0;  // seconds since the trace began
    size_t thread = 0;
  };

  Device& device_;
  const std::chrono::steady_clock::time_point begin_;
  std::mutex mutex_;
  std::vector<Event> events_;
  std::map<std::thread::id, size_t> threads_;  // in order of their first op
};

}  // namespace trefoil
