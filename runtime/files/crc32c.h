// CRC32C (Castagnoli: reflected polynomial 0x82F63B78, initial and final xor 0xFFFFFFFF): the checksum of checkpoints
// and of TensorBoard records. It detects every change of up to 32 consecutive bits; it is no protection against intent.
//
//   uint32_t crc = Crc32c(head);
//   crc = Crc32c(tail, crc);   // the same as Crc32c of head and tail together
//
// The CPU's own instruction (SSE4.2) is used where it is there, found at run time.
// Threads: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace trefoil {

uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t crc = 0);
inline uint32_t Crc32c(std::string_view text, uint32_t crc = 0) {
  return Crc32c(std::as_bytes(std::span(text)), crc);
}

// The same by table look-up, on any CPU.
uint32_t Crc32cPortable(std::span<const std::byte> bytes, uint32_t crc = 0);

}  // namespace trefoil
