// What each pipeline stage does when in a training step, and the memory it then holds: as a trace and as a picture.
//
//   Timeline timeline;
//   timeline.title = "gpt_1t: pipeline 64, INTERLEAVED of 2 chunks";
//   timeline.chunks = 2;
//   timeline.step_seconds = 31.5;
//   timeline.stages.resize(64);
//   for (size_t s = 0; s < 64; ++s) {
//     timeline.stages[s].actions = lists[s];        // of parallel/pipeline/schedule.h
//     timeline.stages[s].spans = times.spans[s];
//     timeline.stages[s].extras = {{"optimizer", {31.2, 31.5}}};
//   }
//   TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, "step.json", TimelineTrace(timeline)));   // for ui.perfetto.dev
//   TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, "step.svg", TimelinePicture(timeline)));  // for a page
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/pipeline/schedule.h"

namespace trefoil {

struct Timeline {
  struct MemoryPoint {
    double seconds = 0;
    int64_t bytes = 0;  // from that moment on, until the next point's; on the device, in all
  };
  struct Extra {
    std::string name;  // "optimizer", "reduce gradients"
    Span span;
  };
  struct Stage {
    std::vector<Action> actions;
    std::vector<Span> spans;          // of each action; seconds from the step's begin
    std::vector<MemoryPoint> memory;  // in order of time; empty: unknown
    std::vector<Extra> extras;        // after the schedule, in order of time
  };

  std::string title;        // "gpt_1t: tensor 8 x pipeline 64 x data 6, INTERLEAVED of 2 chunks"
  int chunks = 1;           // of each stage
  double step_seconds = 0;  // the schedule, then what is extra; 0: up to the last end
  std::vector<Stage> stages;
  int64_t memory_limit = 0;  // bytes; 0: unknown
};

// Chrome trace-event JSON. A process for each stage: a row of computations, "F12" ("F12.1" of chunk 1), "B12", and of
// extras; a row of messages, "S12", "R12", "s12", "r12" (letters as in parallel/pipeline/schedule.h), as long as the
// stage waits for them; memory as a counter, in GiB. About 120 bytes for each action.
std::string TimelineTrace(const Timeline& timeline);

// SVG, 1000 pixels wide: a row for each stage with a box for each computation and its micro-batch's number where that
// fits; idle is white; below, memory over time, the highest of each pixel. Where most boxes would be narrower than a
// pixel, or there are more than 20000, a row shows instead what shares of each moment went to what, as mixed colours.
// Below 2 MB, except of more than some 200 stages.
std::string TimelinePicture(const Timeline& timeline);

}  // namespace trefoil
