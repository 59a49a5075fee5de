#include "planner/gather_plan.h"

#include <algorithm>
#include <vector>

namespace trefoil {
namespace {

// A queue beside the main one, which goes through a stage's actions without a pause.
class Clock {
 public:
  Clock(const StageProfile& profile, const std::vector<Gather>& gathers, bool beside)
      : profile_(profile), gathers_(gathers), beside_(beside) {}

  // What gathers add to it.
  double Run(const PartCost& part) {
    const double begin = now_;
    double added = 0;
    size_t task = 0;
    const auto do_tasks = [&](double until) {
      for (; task < part.beside.size() && part.beside[task].start <= until; ++task) {
        queue_end_ = std::max(queue_end_, begin + added + part.beside[task].start) + part.beside[task].seconds;
      }
    };
    for (const double offset : part.uses) {
      do_tasks(offset);
      const auto start = [&](bool own) {
        for (; next_ < gathers_.size() && gathers_[next_].start <= use_; ++next_) {
          if (own != (gathers_[next_].use == use_)) return;
          Start(gathers_[next_], begin + offset, &added);
        }
      };
      start(/*own=*/true);
      while (waited_ < next_ && gathers_[waited_].use <= use_) {
        if (beside_) added += std::max(0.0, ends_[waited_] - (begin + offset + added));
        ++waited_;
      }
      start(/*own=*/false);
      ++use_;
    }
    do_tasks(part.seconds);
    now_ = begin + part.seconds + added;
    return added;
  }

 private:
  void Start(const Gather& gather, double at, double* added) {
    const double seconds = profile_.gathers.at(gather.bucket).total.seconds;
    if (!beside_) *added += seconds;
    queue_end_ = std::max(queue_end_, at + *added) + seconds;
    ends_.push_back(queue_end_);
  }

  const StageProfile& profile_;
  const std::vector<Gather>& gathers_;
  const bool beside_;
  double now_ = 0, queue_end_ = 0;
  int use_ = 0;
  size_t next_ = 0, waited_ = 0;  // of gathers_
  std::vector<double> ends_;
};

}  // namespace

double GatherPlan::SecondsOf(const Action& action) const {
  const auto found = of_actions.find({action.kind, action.micro_batch, action.chunk});
  return found == of_actions.end() ? 0 : found->second;
}

GatherPlan PlanGathers(const StageProfile& profile, const std::vector<Action>& actions, int micro_batches,
                       bool beside) {
  GatherPlan plan;
  const std::vector<Gather> gathers = profile.GathersOf(actions);
  if (gathers.empty()) return plan;
  plan.gathers = static_cast<int64_t>(gathers.size());
  for (const Gather& gather : gathers) {
    const StageProfile::GatherCost& cost = profile.gathers.at(gather.bucket);
    plan.sent[cost.group].Add(cost.total);
  }
  Clock clock(profile, gathers, beside);
  for (const Action& action : actions) {
    const double seconds = clock.Run(profile.CostOf(profile.steady, action, micro_batches));
    if (seconds <= 0) continue;
    plan.of_actions[{action.kind, action.micro_batch, action.chunk}] = seconds;
    plan.seconds += seconds;
  }
  return plan;
}

}  // namespace trefoil
