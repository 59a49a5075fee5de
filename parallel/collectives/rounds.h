// How a collective of many ranks is divided into rounds of few, so that a rank's messages and peers grow as the
// logarithm of the ranks while its bytes stay those of a direct exchange. d = 2^k q ranks, q odd:
//
//   up to `direct` ranks   one round: everybody exchanges with everybody
//   more                   k rounds of two ranks at distance 1, 2, 4 ..., then one of the q ranks at distance 2^k
//
//   12 ranks, direct 8:    {2 ranks, distance 1}, {2, 2}, {3, 4}: a rank sends 4 messages instead of 11
//
// The digits of a rank are its places in the rounds. In a round the ranks that differ in its digit alone exchange. Sums
// go through the rounds in this order: ranks 0..2^i - 1 of each 2^i are added first, neighbours before neighbours of
// neighbours, which is the one order of addition (SumParts, runtime/ops.h). What is scattered gets smaller from round
// to round, and neighbours share a host: large messages stay inside hosts, small ones go between. A gather takes the
// rounds the other way.
//
// Private to this folder and the planner.
#pragma once

#include <vector>

namespace trefoil {

struct Round {
  int ranks;
  int distance;

  int DigitOf(int rank) const { return rank / distance % ranks; }
  int PeerOf(int rank, int digit) const { return rank + (digit - DigitOf(rank)) * distance; }
  // After the round in a scatter, and before it in a gather, a rank has one part in Parts() of everything: as much as
  // goes to each peer.
  int Parts() const { return ranks * distance; }
};

inline std::vector<Round> RoundsOf(int ranks, int direct) {
  std::vector<Round> rounds;
  int distance = 1;
  if (ranks > direct) {
    for (; ranks / distance % 2 == 0; distance *= 2) rounds.push_back({2, distance});
  }
  if (distance < ranks) rounds.push_back({ranks / distance, distance});
  return rounds;
}

// The place of a rank's block among all when they are sorted by the first digit, then the second ...: what a rank has
// to do with after any round is then contiguous.
inline int PlaceByDigits(int rank, const std::vector<Round>& rounds) {
  int place = 0;
  for (const Round& round : rounds) place = place * round.ranks + round.DigitOf(rank);
  return place;
}

// The exchanges that a collective takes its time for: what a planner needs to know of it.
struct Exchanges {
  std::vector<Round> rounds;  // one after the other
  bool whole = false;         // all bytes go to each peer of every round; else one part in Round::Parts() of them
  int times = 1;              // that the rounds are gone through: 2 to scatter sums and gather them

  double BytesToEach(const Round& round, double bytes) const { return whole ? bytes : bytes / round.Parts(); }
};

}  // namespace trefoil
