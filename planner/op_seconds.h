// The model of time of planner/cluster.proto for one op: what the planner asks and `trefoil calibrate` fits.
//
// Threads: pure functions.
#pragma once

#include "planner/cluster.pb.h"
#include "runtime/device.h"

namespace trefoil {

// What one of `devices` that compute the op together does.
OpCount PerDevice(OpCount count, int devices);

// Seconds of an op on one device whose peak is `peak_flops`, FLOP/s of the op's dtype; 0: no limit by FLOPs.
double OpSeconds(const OpSpeed& speed, double peak_flops, const OpCount& count);

}  // namespace trefoil
