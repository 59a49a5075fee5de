// What any World must do, checked from one rank's side: called on every rank of a world by the threads test and by the
// MPI test.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/collectives/world.h"
#include "tests/parallel/test_world.h"

namespace trefoil {

// Rank `rank`'s part in a sum: values of many magnitudes, so that another order of addition gives other bits.
std::vector<float> Contribution(int rank, int64_t elements);

void CheckAllReduceSum(World& world);
void CheckReduceScatterSum(World& world);
void CheckAllGather(World& world);
void CheckAllToAll(World& world);
void CheckBroadcast(World& world);
void CheckSendReceive(World& world);
void CheckHostNumbersAndTexts(World& world);
void CheckAgree(World& world);
void CheckGroupsAtOnce(World& world);
void CheckSubgroups(World& world);
// What of CheckSendReceive a schedule needs: messages between two ranks are received in the order of sending. All ranks
// send before they receive.
void CheckMessagesInOrder(World& world);
// A tensor that was sent is given up by FinishSend or FinishSends and by nothing else.
void CheckFinishSend(World& world);
// Bytes counted by a null world against those of this one, and its memory for messages on the device.
void CheckBytesSent(World& world);

using Check = void (*)(World&);
// All that a world of this kind must do.
std::span<const Check> ChecksOf(Messages messages);
// The same for groups of RankSums::kFastest, of a world whose library adds up: sums within rounding and the same on all
// ranks, bytes and memory as a null world's.
std::span<const Check> ChecksOfFastestSums();

}  // namespace trefoil
