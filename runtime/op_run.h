// What every op of ops.h is made of: checks of its tensors, a count of what it does, and the call of the device's kernel.
//
//   void Add(Device& device, const Tensor& a, const Tensor& b, const Tensor& out) {
//     CheckActivation("a", a, kAnyRank);
//     Check("b", b, a.dtype(), a.shape());
//     Check("out", out, a.dtype(), a.shape());
//     Run(device, "add", a.elements(), Bytes({&a, &b, &out}), [&](Kernels& kernels) { kernels.Add(a, b, out); });
//   }
//
// Threads: as ops.h. Private to this folder.
#pragma once

#include <chrono>
#include <initializer_list>

#include "runtime/attention.h"
#include "runtime/device.h"
#include "runtime/kernels.h"
#include "runtime/op_journal.h"
#include "runtime/tensor.h"

namespace trefoil {

// What an op moves.
struct Traffic {
  double bytes = 0;
  DType dtype = DType::kFloat32;
};
inline Traffic operator+(Traffic traffic, double bytes) { return {traffic.bytes + bytes, traffic.dtype}; }

// Bytes of each operand once; an undefined tensor has none.
Traffic Bytes(std::initializer_list<const Tensor*> operands);

// Runs `kernel` and, if anyone observes, reports it. Only then is the clock read and the device waited for.
template <typename Kernel>
void Run(Device& device, const char* op, double flops, const Traffic& traffic, const Kernel& kernel,
         const OpCount::Product& product = {}) {
  NoteOp(op);
  if (!device.observer()) {
    kernel(device.kernels());
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  kernel(device.kernels());
  double seconds = 0;
  if (device.computes()) {
    device.Synchronize();
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  device.observer()(OpCount{op, flops, traffic.bytes, seconds, traffic.dtype, product}, start);
}

// A product of [m, k] and [k, n].
template <typename Kernel>
void RunProduct(Device& device, const char* op, int64_t m, int64_t n, int64_t k, const Traffic& traffic,
                const Kernel& kernel) {
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  Run(device, op, flops, traffic, kernel, {.rows = m, .columns = n, .inner = k});
}

// CHECKs, with `name` in the message.
void Check(const char* name, const Tensor& tensor, DType dtype, const Shape& shape);
// That it is float32 or bfloat16.
void CheckActivation(const char* name, const Tensor& tensor, int rank);
// That x has `rows` rows with room for so many heads. Returns the bytes of these.
double CheckHeads(const char* name, const HeadColumns& x, DType dtype, int64_t rows, int64_t heads, int64_t head_dim);
void CheckProbability(float dropout);
constexpr int kAnyRank = -1;
constexpr DType kFloat = DType::kFloat32;

}  // namespace trefoil
