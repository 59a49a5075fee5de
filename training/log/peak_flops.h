// The ceiling that a run's speed is a share of.
#pragma once

namespace trefoil {

// FLOP/s of all ranks together. 0: unknown.
struct PeakFlops {
  double vendor = 0;    // by the makers' data sheets (runtime/host/vendor_peak.h)
  double measured = 0;  // side by side at the start

  // MFU is of this one: the vendor's where it is known, as in others' reports.
  double best() const { return vendor > 0 ? vendor : measured; }
  const char* best_name() const { return vendor > 0 ? "vendor" : "measured"; }
};

}  // namespace trefoil
