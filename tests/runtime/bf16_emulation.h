// The intrinsics of runtime/kernels/cpu/bf16_block_tile.h in plain C++, for CPUs without bf16 instructions, strict
// about the rules of AMX: an instruction that a CPU would refuse fails the test.
//
// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, LDTILECFG, TILELOADD, TDPBF16PS, VDPBF16PS.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstring>

// Where a header of the compiler has been read, AMX's intrinsics are macros.
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps

namespace trefoil::cpu {
namespace {

using __m512 = float __attribute__((vector_size(64)));
using __m512i = int32_t __attribute__((vector_size(64)));
using __m512bh = int16_t __attribute__((vector_size(64)));

inline __m512 _mm512_setzero_ps() { return __m512{}; }
inline __m512 _mm512_add_ps(__m512 a, __m512 b) { return a + b; }
inline __m512i _mm512_set1_epi32(int value) { return __m512i{} + value; }
inline __m512 _mm512_loadu_ps(const void* from) {
  __m512 value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
inline __m512i _mm512_loadu_si512(const void* from) {
  __m512i value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
inline void _mm512_storeu_ps(void* to, __m512 value) { std::memcpy(to, &value, sizeof(value)); }

// sum + the products of the pairs, the odd elements first.
inline float DotPair(float sum, uint32_t a, uint32_t b) {
  sum += std::bit_cast<float>(a & 0xffff0000u) * std::bit_cast<float>(b & 0xffff0000u);
  return sum + std::bit_cast<float>(a << 16) * std::bit_cast<float>(b << 16);
}

inline __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
  const __m512i x = (__m512i)a, y = (__m512i)b;
  for (int i = 0; i < 16; ++i) sum[i] = DotPair(sum[i], static_cast<uint32_t>(x[i]), static_cast<uint32_t>(y[i]));
  return sum;
}

// This thread's tile registers: palette 0 has none, palette 1 eight of at most 16 rows of 64 bytes.
struct Tiles {
  struct Config {
    uint8_t palette, start_row, reserved[14];
    uint16_t column_bytes[16];
    uint8_t rows[16];
  } config;
  struct Tile {
    uint8_t data[16][64];
  } tiles[8];
};
inline Tiles& ThreadTiles() {
  static thread_local Tiles tiles = {};
  return tiles;
}
inline int TileRows(int tile) { return ThreadTiles().config.rows[tile]; }
inline int TileBytes(int tile) { return ThreadTiles().config.column_bytes[tile]; }
// The tile, whose old content is known to be of a shape.
inline Tiles::Tile& UsedTile(int tile) {
  EXPECT_EQ(ThreadTiles().config.palette, 1) << "tiles are not configured";
  EXPECT_TRUE(tile >= 0 && tile < 8) << tile;
  EXPECT_TRUE(TileRows(tile) > 0 && TileBytes(tile) > 0) << "tile " << tile << " is not configured";
  return ThreadTiles().tiles[tile];
}

inline void _tile_loadconfig(const void* from) {
  Tiles& tiles = ThreadTiles();
  tiles = {};
  std::memcpy(&tiles.config, from, sizeof(tiles.config));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(from) % 64, 0u) << "not an error of the CPU, but slow";
  EXPECT_EQ(tiles.config.palette, 1);
  EXPECT_EQ(tiles.config.start_row, 0);
  for (const uint8_t byte : tiles.config.reserved) EXPECT_EQ(byte, 0);
  for (int i = 0; i < 16; ++i) {
    EXPECT_LE(TileRows(i), i < 8 ? 16 : 0) << i;
    EXPECT_LE(TileBytes(i), i < 8 ? 64 : 0) << i;
    EXPECT_EQ(TileRows(i) == 0, TileBytes(i) == 0) << i;
  }
}
inline void _tile_release() { ThreadTiles() = {}; }
inline void _tile_zero(int tile) { UsedTile(tile) = {}; }
inline void _tile_loadd(int tile, const void* from, int64_t stride) {
  Tiles::Tile& to = UsedTile(tile);
  to = {};
  for (int r = 0; r < TileRows(tile); ++r) {
    std::memcpy(to.data[r], static_cast<const char*>(from) + r * stride, static_cast<size_t>(TileBytes(tile)));
  }
}
inline void _tile_stored(int tile, void* to, int64_t stride) {
  const Tiles::Tile& from = UsedTile(tile);
  for (int r = 0; r < TileRows(tile); ++r) {
    std::memcpy(static_cast<char*>(to) + r * stride, from.data[r], static_cast<size_t>(TileBytes(tile)));
  }
}
// sum [rows, columns] += a [rows, pairs] b [pairs, columns]
inline void _tile_dpbf16ps(int sum, int a, int b) {
  EXPECT_TRUE(sum != a && sum != b && a != b) << "tiles must differ";
  EXPECT_EQ(TileRows(sum), TileRows(a));
  EXPECT_EQ(TileBytes(sum), TileBytes(b));
  EXPECT_EQ(TileBytes(a), TileRows(b) * 4);
  Tiles::Tile& out = UsedTile(sum);
  const Tiles::Tile &left = UsedTile(a), &right = UsedTile(b);
  const auto load = [](const Tiles::Tile& tile, int row, int i, auto& value) {
    std::memcpy(&value, tile.data[row] + 4 * i, 4);
  };
  for (int r = 0; r < TileRows(sum); ++r) {
    for (int j = 0; j < TileBytes(sum) / 4; ++j) {
      float total;
      load(out, r, j, total);
      for (int p = 0; p < TileBytes(a) / 4; ++p) {
        uint32_t x, y;
        load(left, r, p, x);
        load(right, p, j, y);
        total = DotPair(total, x, y);
      }
      std::memcpy(out.data[r] + 4 * j, &total, 4);
    }
  }
}

}  // namespace
}  // namespace trefoil::cpu
