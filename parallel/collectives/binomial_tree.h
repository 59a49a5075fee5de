// The ranks [0, size) of a group as a tree with root 0, for what goes up to one rank or down to all in log2(size) rounds.
//
//   size 6:   0 -> 1, 2, 4     2 -> 3     4 -> 5
//
// The parent of r is r without its lowest bit. The subtree of r is the ranks [r, r + its lowest bit), of which there are
// as many as the group has: texts and numbers that are joined up the tree come in rank order.
//
// Private to this folder.
#pragma once

#include <algorithm>
#include <vector>

namespace trefoil {

inline int ParentInTree(int rank) { return rank & (rank - 1); }

// Ranks of the subtree, itself included.
inline int SubtreeSize(int rank, int size) {
  return rank == 0 ? size : std::min(rank & -rank, size - rank);
}

// Ascending: subtrees one behind the other, each larger than the one before but for the last.
inline std::vector<int> ChildrenInTree(int rank, int size) {
  std::vector<int> children;
  for (int bit = 1; bit < SubtreeSize(rank, size); bit *= 2) children.push_back(rank + bit);
  return children;
}

}  // namespace trefoil
