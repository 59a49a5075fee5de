// Trace Event Format (Google, 2016), times in microseconds. Complete events, counters, and the names of rows:
//
//   {"traceEvents":[
//   {"name":"process_name","ph":"M","pid":0,"args":{"name":"stage 0"}},
//   {"name":"F12","ph":"X","pid":0,"tid":0,"ts":250000.000,"dur":250000.000,"args":{"micro_batch":12}},
//   {"name":"memory","ph":"C","pid":0,"ts":250000.000,"args":{"GiB":1.5}}
//   ]}
#include "training/log/trace_events.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <cmath>
#include <cstdint>
#include <utility>

namespace trefoil {
namespace {

int64_t Nanoseconds(double seconds) { return std::llround(1e9 * seconds); }

void AppendMicroseconds(std::string& text, int64_t nanoseconds) {
  absl::StrAppendFormat(&text, "%d.%03d", nanoseconds / 1000, nanoseconds % 1000);
}

void AppendQuoted(std::string& text, absl::string_view name) {
  text += '"';
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&text, "\\u%04x", c);
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  text += '"';
}

}  // namespace

void TraceEvents::Begin(absl::string_view name, char phase, int process) {
  text_ += first_ ? "\n{\"name\":" : ",\n{\"name\":";
  first_ = false;
  AppendQuoted(text_, name);
  absl::StrAppend(&text_, ",\"ph\":\"", absl::string_view(&phase, 1), "\",\"pid\":", process);
}

void TraceEvents::NameProcess(int process, absl::string_view name) {
  Begin("process_name", 'M', process);
  text_ += ",\"args\":{\"name\":";
  AppendQuoted(text_, name);
  text_ += "}}";
  Begin("process_sort_index", 'M', process);
  absl::StrAppend(&text_, ",\"args\":{\"sort_index\":", process, "}}");
}

void TraceEvents::NameThread(int process, int thread, absl::string_view name) {
  Begin("thread_name", 'M', process);
  absl::StrAppend(&text_, ",\"tid\":", thread, ",\"args\":{\"name\":");
  AppendQuoted(text_, name);
  text_ += "}}";
  Begin("thread_sort_index", 'M', process);
  absl::StrAppend(&text_, ",\"tid\":", thread, ",\"args\":{\"sort_index\":", thread, "}}");
}

void TraceEvents::Complete(const Event& event, absl::string_view arguments) {
  const int64_t begin = Nanoseconds(event.begin);
  Begin(event.name, 'X', event.process);
  absl::StrAppend(&text_, ",\"tid\":", event.thread, ",\"ts\":");
  AppendMicroseconds(text_, begin);
  text_ += ",\"dur\":";
  AppendMicroseconds(text_, Nanoseconds(event.end) - begin);
  if (!arguments.empty()) absl::StrAppend(&text_, ",\"args\":{", arguments, "}");
  text_ += '}';
}

void TraceEvents::Counter(int process, absl::string_view name, double seconds, absl::string_view series, double value) {
  Begin(name, 'C', process);
  text_ += ",\"ts\":";
  AppendMicroseconds(text_, Nanoseconds(seconds));
  text_ += ",\"args\":{";
  AppendQuoted(text_, series);
  absl::StrAppend(&text_, ":", value, "}}");
}

std::string TraceEvents::Finish() && {
  text_ += "\n]}\n";
  return std::move(text_);
}

}  // namespace trefoil
