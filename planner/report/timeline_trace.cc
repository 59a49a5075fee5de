#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <utility>

#include "planner/report/timeline.h"
#include "training/log/trace_events.h"

namespace trefoil {
namespace {

enum Row { kCompute = 0, kMessages = 1 };

Row RowOf(ActionKind kind) {
  switch (kind) {
    case ActionKind::kForward:
    case ActionKind::kBackward:
    case ActionKind::kBackwardInput:
    case ActionKind::kBackwardWeight:
      return kCompute;
    default:
      return kMessages;
  }
}

}  // namespace

std::string TimelineTrace(const Timeline& timeline) {
  TraceEvents trace;
  for (size_t s = 0; s < timeline.stages.size(); ++s) {
    const Timeline::Stage& stage = timeline.stages[s];
    CHECK_EQ(stage.actions.size(), stage.spans.size());
    const int process = static_cast<int>(s);
    trace.NameProcess(process, absl::StrCat("stage ", s));
    trace.NameThread(process, kCompute, "compute");
    trace.NameThread(process, kMessages, "messages");
    for (size_t i = 0; i < stage.actions.size(); ++i) {
      const Action& action = stage.actions[i];
      const Row row = RowOf(action.kind);
      std::string arguments = absl::StrCat("\"micro_batch\":", action.micro_batch, ",\"chunk\":", action.chunk);
      if (row == kMessages) absl::StrAppend(&arguments, ",\"peer\":", action.peer);
      trace.Complete({.name = ToString({action}),
                      .process = process,
                      .thread = row,
                      .begin = stage.spans[i].begin,
                      .end = stage.spans[i].end},
                     arguments);
    }
    for (const Timeline::Extra& extra : stage.extras) {
      trace.Complete({.name = extra.name,
                      .process = process,
                      .thread = kCompute,
                      .begin = extra.span.begin,
                      .end = extra.span.end});
    }
    for (const Timeline::MemoryPoint& point : stage.memory) {
      trace.Counter(process, "memory", point.seconds, "GiB", static_cast<double>(point.bytes) / (int64_t{1} << 30));
    }
  }
  return std::move(trace).Finish();
}

}  // namespace trefoil
