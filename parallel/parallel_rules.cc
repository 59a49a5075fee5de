#include "parallel/parallel_rules.h"

#include <string>

#include "parallel/axes.h"

namespace trefoil {

void CheckParallel(const ParallelConfig& parallel, Rules& rules) {
  for (const AxisEntry& axis : Axes()) rules.AtLeastOne(std::string("parallel.") + axis.name, (parallel.*axis.size)());
  rules.AtLeastOne("parallel.chunks", parallel.chunks());
  const bool interleaved = parallel.schedule() == ParallelConfig::INTERLEAVED;
  if (rules.Good("parallel.chunks", "parallel.schedule")) {
    if (interleaved && parallel.chunks() < 2) {
      rules.Broken("parallel.chunks: ", parallel.chunks(), ", must be at least 2 with INTERLEAVED; nearest legal: 2");
    } else if (!interleaved && parallel.chunks() != 1) {
      rules.Broken("parallel.chunks: ", parallel.chunks(),
                   ", must be 1 without the schedule INTERLEAVED; nearest legal: 1", " (or schedule: INTERLEAVED)");
    }
  }
  if (rules.Good("parallel.schedule", "parallel.pipeline") && interleaved && parallel.pipeline() < 2) {
    rules.Broken("parallel.schedule: INTERLEAVED, must have a parallel.pipeline of at least 2, found ",
                 parallel.pipeline(), "; nearest legal: ONE_F_ONE_B");
  }
}

}  // namespace trefoil
