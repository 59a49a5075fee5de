// The emulated GPU's twin of runtime/kernels/cuda/ptx.h: what each instruction does, by the PTX ISA.
#pragma once

#include <glog/logging.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "runtime/dtype.h"
#include "tests/cuda_emulation/block.h"

namespace trefoil::cuda {

inline uint32_t PairOfBFloat16(float first, float second) {
  return uint32_t{BFloat16(first).bits} | uint32_t{BFloat16(second).bits} << 16;
}

// As late as the waiting allows: what is read too early is still the old content.
template <int kBytes>
inline void CopyAsync(void* shared, const void* global, bool inside) {
  CHECK_EQ(reinterpret_cast<uintptr_t>(shared) % kBytes, 0u) << "cp.async to an address that is not aligned";
  CHECK(reinterpret_cast<uintptr_t>(global) % kBytes == 0u) << "cp.async from an address that is not aligned";
  emulation::Current().open_copies.push_back([=] {
    if (inside) {
      std::memcpy(shared, global, kBytes);
    } else {
      std::memset(shared, 0, kBytes);
    }
  });
}
inline void CommitCopies() {
  emulation::ThreadState& me = emulation::Current();
  me.copy_groups.push_back(std::move(me.open_copies));
  me.open_copies.clear();
}
template <int kGroups>
inline void WaitForCopies() {
  auto& groups = emulation::Current().copy_groups;
  while (groups.size() > kGroups) {
    for (const auto& copy : groups.front()) copy();
    groups.erase(groups.begin());
  }
}

template <bool kTranspose>
struct LoadMatricesTogether {
  struct In {
    const uint16_t* row;
  };
  struct Out {
    uint32_t matrix[4];
  };
  static void Run(const bool*, const In* in, Out* out) {
    for (int lane = 0; lane < 32; ++lane) {
      CHECK_EQ(reinterpret_cast<uintptr_t>(in[lane].row) % 16, 0u) << "ldmatrix from a row that is not aligned";
      for (int m = 0; m < 4; ++m) {
        const auto element = [&](int row, int column) -> uint32_t { return in[m * 8 + row].row[column]; };
        const int major = lane / 4, minor = 2 * (lane % 4);
        out[lane].matrix[m] = kTranspose ? element(minor, major) | element(minor + 1, major) << 16
                                         : element(major, minor) | element(major, minor + 1) << 16;
      }
    }
  }
};
template <bool kTranspose>
inline void LoadMatrices(uint32_t (&to)[4], const void* row) {
  const auto out = emulation::InWarp<LoadMatricesTogether<kTranspose>>({static_cast<const uint16_t*>(row)});
  std::memcpy(to, out.matrix, sizeof(to));
}

struct MultiplyAddTogether {
  struct In {
    float sum[4];
    uint32_t a[4], b[2];
  };
  struct Out {
    float sum[4];
  };
  static float Half(uint32_t pair, int half) {
    BFloat16 value;
    value.bits = static_cast<uint16_t>(pair >> (16 * half));
    return static_cast<float>(value);
  }
  static void Run(const bool*, const In* in, Out* out) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = 2 * (lane % 4);
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 8 + half] = Half(in[lane].a[i], half);
        for (int i = 0; i < 2; ++i) b[t + i * 8 + half][g] = Half(in[lane].b[i], half);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, column = 2 * (lane % 4) + i % 2;
        float sum = in[lane].sum[i];
        for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
        out[lane].sum[i] = sum;
      }
    }
  }
};
inline void MultiplyAdd(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const auto out = emulation::InWarp<MultiplyAddTogether>(
      {{sum[0], sum[1], sum[2], sum[3]}, {a[0], a[1], a[2], a[3]}, {b0, b1}});
  std::memcpy(sum, out.sum, sizeof(sum));
}

}  // namespace trefoil::cuda
