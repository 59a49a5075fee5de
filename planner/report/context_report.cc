#include "planner/report/context_report.h"

#include <absl/strings/str_format.h>

#include <algorithm>
#include <vector>

#include "runtime/number_text.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

std::string Figures(const Plan& plan) {
  double sent = 0;
  for (const StagePlan& stage : plan.stages) {
    const auto found = stage.sent.find("context");
    if (found != stage.sent.end()) sent = std::max(sent, found->second.bytes);
  }
  const std::string step = plan.step_seconds > 0 ? absl::StrFormat("step %.3g s, ", plan.step_seconds) : "";
  return absl::StrFormat("%sa rank sends %s in attention, %s reserved", step, BytesText(static_cast<int64_t>(sent)),
                         BytesText(plan.reserved()));
}

}  // namespace

std::string ReportContext(const RunConfig& config, const Plan& plan, Planner& planner) {
  std::string text;
  if (config.parallel().context() == 1) return text;
  for (const auto method : {ParallelConfig::RING, ParallelConfig::ALL_TO_ALL}) {
    RunConfig other = config;
    other.mutable_parallel()->set_context_method(method);
    const bool same = method == config.parallel().context_method();
    const std::vector<std::string> violations = same ? std::vector<std::string>() : Violations(other, plan.ranks);
    const std::string figures = same                 ? Figures(plan)
                                : violations.empty() ? Figures(planner.Make(other, plan.ranks))
                                                     : "not here: " + violations.front();
    absl::StrAppendFormat(&text, "%-9s %-11s %s\n", text.empty() ? "context" : "",
                          ParallelConfig::ContextMethod_Name(method), figures);
  }
  return text;
}

}  // namespace trefoil
