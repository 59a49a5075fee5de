// Bytes of any length between ranks, in blocks: files from host to host. Internal to checkpoint/.
//
//   ExchangeStreams(group, {{.peer = 1, .bytes = n, .next = [&](auto block) { Read(file, block); }}},   // sent
//                   {{.peer = 3, .bytes = m, .next = [&](auto block) { Append(copy, block); }}});        // received
//
// Rank r deals with ranks r + 1 and r - 1 first, then with r + 2 and r - 2 ...: everybody sends and receives at the same
// time, and nobody waits for who waits for it. A rank holds one block of what it sends and one of what it receives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "parallel/collectives/group.h"

namespace trefoil {

struct Stream {
  int peer = 0;  // in the group; not this rank
  int64_t bytes = 0;
  // Fills, or takes, the bytes that follow. Who cannot remembers why, and leaves the block as it is.
  std::function<void(std::span<std::byte> block)> next;
};

// Every rank of the group makes the call. What rank a sends rank b is what b receives from a: as many streams, in their
// order, of the same bytes. Tensors of the group are on the host.
void ExchangeStreams(Group& group, const std::vector<Stream>& sent, const std::vector<Stream>& received);

}  // namespace trefoil
