// Text of a Chrome trace, one event after the other: to be opened in chrome://tracing or ui.perfetto.dev.
//
//   TraceEvents trace;
//   trace.NameProcess(0, "stage 0");
//   trace.Complete({.name = "F12", .process = 0, .thread = 0, .begin = 0.25, .end = 0.5}, "\"micro_batch\":12");
//   trace.Counter(0, "memory", 0.25, "GiB", 1.5);
//   const std::string text = std::move(trace).Finish();
//
// Times are seconds. The file's are nanoseconds, to which begin and end are rounded each: events that follow each other
// here do so there too.
// Threads: one at a time.
#pragma once

#include <absl/strings/string_view.h>

#include <string>

namespace trefoil {

class TraceEvents {
 public:
  struct Event {
    absl::string_view name;
    int process = 0, thread = 0;
    double begin = 0, end = 0;
  };

  // What the viewer calls them. Processes are shown in order of their numbers, and so are a process's threads.
  void NameProcess(int process, absl::string_view name);
  void NameThread(int process, int thread, absl::string_view name);
  // `arguments`: members of a JSON object ("\"chunk\":1"), or empty.
  void Complete(const Event& event, absl::string_view arguments = "");
  // From `seconds` on, `series` of the counter `name` of the process is `value`.
  void Counter(int process, absl::string_view name, double seconds, absl::string_view series, double value);
  // The whole file. Nothing can be added afterwards.
  std::string Finish() &&;

 private:
  void Begin(absl::string_view name, char phase, int process);

  std::string text_ = "{\"traceEvents\":[";
  bool first_ = true;
};

}  // namespace trefoil
