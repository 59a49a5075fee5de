#include "parallel/parallel_rules.h"

#include <algorithm>
#include <string>

#include "parallel/axes.h"
#include "parallel/pipeline/schedule.h"
#include "runtime/config/nearest.h"

namespace trefoil {
namespace {

bool AllowsChunks(const ScheduleEntry& schedule, int chunks) {
  return schedule.least_chunks <= chunks && chunks <= schedule.most_chunks;
}

}  // namespace

void CheckParallel(const ParallelConfig& parallel, Rules& rules) {
  for (const AxisEntry& axis : Axes()) rules.AtLeastOne(std::string("parallel.") + axis.name, (parallel.*axis.size)());
  rules.AtLeastOne("parallel.chunks", parallel.chunks());
  rules.AtLeastOne("parallel.replicas", parallel.replicas());
  if (rules.Good("parallel.replicas", "parallel.data") && parallel.data() % parallel.replicas() != 0) {
    rules.Broken("parallel.replicas: ", parallel.replicas(), ", must divide parallel.data ", parallel.data(),
                 "; nearest legal: ", NearestDivisors(parallel.data(), parallel.replicas()));
  }
  const ScheduleEntry& schedule = EntryOf(parallel.schedule());
  const std::string& name = ParallelConfig::Schedule_Name(schedule.schedule);
  if (rules.Good("parallel.chunks", "parallel.schedule") && !AllowsChunks(schedule, parallel.chunks())) {
    const int least = schedule.least_chunks, most = schedule.most_chunks;
    std::string others;
    for (const ScheduleEntry& other : Schedules()) {
      if (!AllowsChunks(other, parallel.chunks()) || !others.empty()) continue;
      others = " (or schedule: " + ParallelConfig::Schedule_Name(other.schedule) + ")";
    }
    rules.Broken("parallel.chunks: ", parallel.chunks(), ", must be ", least == most ? "" : "at least ", least,
                 " with ", name, "; nearest legal: ", std::clamp(parallel.chunks(), least, most), others);
  }
  if (rules.Good("parallel.schedule", "parallel.pipeline") && parallel.pipeline() < schedule.least_stages) {
    rules.Broken("parallel.schedule: ", name, ", must have a parallel.pipeline of at least ", schedule.least_stages,
                 ", found ", parallel.pipeline(), "; nearest legal: ONE_F_ONE_B");
  }
}

}  // namespace trefoil
