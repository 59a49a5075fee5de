#include "parallel/parallel_rules.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "parallel/axes.h"
#include "parallel/pipeline/schedule.h"
#include "runtime/config/nearest.h"

namespace trefoil {
namespace {

bool AllowsChunks(const ScheduleEntry& schedule, int chunks) {
  return schedule.least_chunks <= chunks && chunks <= schedule.most_chunks;
}

// Times are of every virtual stage or of none.
void CheckSearch(const ParallelConfig& parallel, Rules& rules) {
  const ScheduleSearchConfig& search = parallel.schedule_search();
  if (!rules.Good("parallel.pipeline", "parallel.chunks")) return;
  const int virtual_stages = parallel.pipeline() * parallel.chunks();
  const int most = std::max({search.forward_size(), search.backward_input_size(), search.backward_weight_size()});
  const auto check = [&](const char* name, const google::protobuf::RepeatedField<double>& times) {
    const auto wrong = std::find_if(times.begin(), times.end(), [](double x) { return !(x >= 0 && std::isfinite(x)); });
    if (wrong != times.end()) {
      rules.Broken("parallel.schedule_search.", name, ": ", *wrong, ", must be a finite number that is not negative; ",
                   "nearest legal: 0");
    }
    if (most == 0 || times.size() == virtual_stages) return;
    rules.Broken("parallel.schedule_search.", name, ": ", times.size(), " times, must be one for each of the ",
                 virtual_stages, " virtual stages of parallel.pipeline ", parallel.pipeline(), " x parallel.chunks ",
                 parallel.chunks(), "; nearest legal: ", virtual_stages, " times, or none of forward, backward_input and ",
                 "backward_weight");
  };
  check("forward", search.forward());
  check("backward_input", search.backward_input());
  check("backward_weight", search.backward_weight());
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
    const bool few = parallel.chunks() < least;
    rules.Broken("parallel.chunks: ", parallel.chunks(), ", must be ",
                 least == most ? "" : few ? "at least " : "at most ", few ? least : most, " with ", name,
                 "; nearest legal: ", std::clamp(parallel.chunks(), least, most), others);
  }
  CheckSearch(parallel, rules);
  if (rules.Good("parallel.schedule", "parallel.pipeline") && parallel.pipeline() < schedule.least_stages) {
    rules.Broken("parallel.schedule: ", name, ", must have a parallel.pipeline of at least ", schedule.least_stages,
                 ", found ", parallel.pipeline(), "; nearest legal: ONE_F_ONE_B");
  }
}

}  // namespace trefoil
