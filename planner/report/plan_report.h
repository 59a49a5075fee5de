// A plan in words and tables, for a terminal.
#pragma once

#include <string>

#include "planner/layout_search.h"
#include "planner/schedule_comparison.h"

namespace trefoil {

// Several lines: the layout, memory of every stage, bytes sent, FLOPs, and on a cluster the time of a step and where it
// goes. `train_tokens`: how many the days are for.
std::string ReportPlan(const RunConfig& config, const Cluster& cluster, const Plan& plan, double train_tokens);

// Its part about memory: a row for each stage.
std::string MemoryTable(const Plan& plan);

// The best layouts of a search, and why the next ones do not fit; `most` of each.
std::string ReportSearch(const SearchResult& result, double memory_limit, int most);

// The schedules of a mesh, and whether interleaved 1F1B would be as good as the best.
std::string ReportSchedules(const std::vector<ScheduleRow>& rows);

// Of a plan with the schedule AUTO: what every stage does, of long lists and many stages the beginning.
std::string ReportFoundSchedule(const Plan& plan);

// Times for parallel.schedule_search as they would be written in a config, and the step's with a schedule that is found by
// them.
std::string ReportSearchTimes(const ScheduleSearchConfig& times, double step_seconds);

// "tensor 8 x pipeline 64 x data 6; INTERLEAVED of 2 chunks, micro-batch 1 ...": what a search varies.
std::string LayoutText(const RunConfig& config);

}  // namespace trefoil
