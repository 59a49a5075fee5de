#include "planner/schedule_comparison.h"

#include <algorithm>

#include "parallel/pipeline/schedule.h"
#include "training/config/validate.h"

namespace trefoil {

std::vector<ScheduleRow> CompareSchedules(const RunConfig& config, int ranks, Planner& planner) {
  constexpr int kMostChunks = 8;
  std::vector<ScheduleRow> rows;
  for (const ScheduleEntry& entry : Schedules()) {
    for (int chunks = entry.least_chunks; chunks <= std::min(entry.most_chunks, kMostChunks); ++chunks) {
      ScheduleRow row = {.config = config};
      ParallelConfig& parallel = *row.config.mutable_parallel();
      parallel.set_schedule(entry.schedule);
      parallel.set_chunks(chunks);
      ScheduleSearchConfig& search = *parallel.mutable_schedule_search();
      search.clear_forward();
      search.clear_backward_input();
      search.clear_backward_weight();
      if (!Violations(row.config, ranks).empty()) continue;
      if (entry.searched()) search = planner.SearchTimes(row.config, ranks);
      const Plan plan = planner.Make(row.config, ranks);
      row.seconds = plan.step_seconds;
      for (int s = 0; s < parallel.pipeline(); ++s) {
        row.idle_within = std::max(row.idle_within, plan.schedule.idle_within(s));
      }
      row.barrier = plan.schedule.barrier_seconds();
      row.reserved = plan.reserved();
      row.fits = plan.fits();
      rows.push_back(std::move(row));
    }
  }
  std::stable_sort(rows.begin(), rows.end(), [](const ScheduleRow& a, const ScheduleRow& b) {
    return a.fits != b.fits ? a.fits : a.seconds < b.seconds;
  });
  return rows;
}

}  // namespace trefoil
