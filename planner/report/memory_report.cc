#include "planner/report/memory_report.h"

#include <absl/strings/str_format.h>

#include "runtime/number_text.h"

namespace trefoil {
std::string CompareMemory(const MemoryUse& planned, const MemoryUse& real) {
  std::string text = absl::StrFormat("          %-14s %12s %12s\n", "MiB", "planned", "real");
  const auto row = [&](const char* name, int64_t plan, int64_t found) {
    if (plan == 0 && found == 0) return;
    const double mib = 1 << 20;
    absl::StrAppendFormat(&text, "          %-14s %12.3f %12.3f  %s\n", name, static_cast<double>(plan) / mib,
                          static_cast<double>(found) / mib,
                          plan == found ? "exact" : absl::StrFormat("%+d bytes", found - plan));
  };
  for (size_t i = 0; i < kPurposes; ++i) row(Name(static_cast<Purpose>(i)), planned.peak[i], real.peak[i]);
  row("all at once", planned.peak_total, real.peak_total);
  row("reserved", planned.reserved, real.reserved);
  row("on the host", planned.host, real.host);
  return text;
}

std::string CompareProcess(const MemoryUse& planned, const ProcessMemory& process) {
  std::string compiled;
  if (planned.compiled > 0) compiled = ", " + BytesText(planned.compiled) + " of compiled products";
  std::string text = absl::StrFormat("          rank 0's process: planned %s (%s before, %s reserved%s), real %s\n",
                                     BytesText(process.before + planned.reserved + planned.compiled),
                                     BytesText(process.before), BytesText(planned.reserved), compiled,
                                     BytesText(process.real));
  if (process.files_since > 0) {
    absl::StrAppendFormat(&text, "          and %s of files touched since (code, data), which the ranks of a host share\n",
                          BytesText(process.files_since));
  }
  return text;
}

}  // namespace trefoil
