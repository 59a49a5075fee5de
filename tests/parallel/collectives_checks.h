// What any World must do, checked from one rank's side: called on every rank of a world by the threads test and by the
// MPI test.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/world.h"

namespace trefoil {

// Rank `rank`'s part in a sum: values of many magnitudes, so that another order of addition gives other bits.
std::vector<float> Contribution(int rank, int64_t elements);

void CheckAllReduceSum(World& world);
void CheckReduceScatterSum(World& world);
void CheckAllGather(World& world);
void CheckBroadcast(World& world);
void CheckSendReceive(World& world);
void CheckHostNumbersAndTexts(World& world);
void CheckAgree(World& world);
void CheckGroupsAtOnce(World& world);
void CheckSubgroups(World& world);
// Bytes counted by a null world against those of this one.
void CheckBytesSent(World& world);

inline constexpr void (*kChecks[])(World&) = {
    CheckAllReduceSum,        CheckReduceScatterSum, CheckAllGather,    CheckBroadcast, CheckSendReceive,
    CheckHostNumbersAndTexts, CheckAgree,            CheckGroupsAtOnce, CheckSubgroups, CheckBytesSent,
};

}  // namespace trefoil
